# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The check of the variables, over the hosts of a play."""

from __future__ import annotations

from unittest import mock

import pytest
from ansible_collections.kataops.aio.plugins.action.kata_aio_inputs import ActionModule


class HostVars(dict):
    """As Ansible's: raw_get gives what was written, [] what it means."""

    def raw_get(self, host):
        return self[host].raw


class Variables(dict):
    def __init__(self, raw, **meant):
        super().__init__(raw, **meant)
        self.raw = raw


def check(hostvars, command="remediate"):
    action = ActionModule(*[mock.MagicMock()] * 6)
    action._task.async_val, action._task.args = 0, {}
    return action.run(task_vars={"hostvars": HostVars(hostvars), "ansible_play_hosts_all": list(hostvars), "__kata_aio_command": command})


def test_mistakes_are_told_with_their_hosts():
    made = check({"h%d" % number: Variables({"kata_aio_engine": "libaio"} if number > 2 else {}) for number in range(10)})
    assert made["failed"]
    assert "kata_aio_engine has 'libaio'; expected auto, native, io_uring, threads (h3, h4, h5, h6, h7 and 2 more)" in made["msg"]


@pytest.mark.parametrize("name, several", [("kata_aio_artifact", False), ("kata_aio_before_host", True), ("kata_aio_after_wave", True)])
def test_a_file_that_is_not_there_is_told_before_a_rollout_begins(tmp_path, name, several):
    here = tmp_path / "here.yml"
    here.write_text("")
    gone = str(tmp_path / "gone.yml")
    value = [str(here), gone] if several else gone
    made = check({"h1": Variables({name: value}), "h2": Variables({name: value}), "h3": Variables({})})
    assert made["problems"] == ["%s names %s; expected a file on the controller, and there is none" % (name, gone)]
    assert made["msg"].endswith("(h1, h2)")
    assert not check({"h1": Variables({name: value})}, "audit").get("failed")


def test_files_that_are_there_or_that_are_no_paths_here_are_right(tmp_path):
    here = tmp_path / "here.tar.xz"
    here.write_text("")
    for value in (str(here), "https://host.example/qemu.tar.xz", "relative.tar.xz"):
        made = check({"h1": Variables({"kata_aio_artifact": value, "kata_aio_artifact_sha256": "0" * 64})})
        assert not made.get("failed"), made


def test_a_template_is_judged_by_what_it_means(tmp_path):
    raw = {"kata_aio_before_host": ["{{ inventory_dir }}/cordon.yml"]}
    made = check({"h1": Variables(raw, kata_aio_before_host=[str(tmp_path / "cordon.yml")])})
    assert made["problems"] == ["kata_aio_before_host names %s; expected a file on the controller, and there is none" % (tmp_path / "cordon.yml")]

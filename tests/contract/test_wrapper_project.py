# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wrapper project for AWX (docs/examples/awx) runs with the collection installed from its archive, and asks for nothing that there is not."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest
import yaml
from ansible_collections.kataops.aio.plugins.plugin_utils._rollout.inputs import INPUTS, problems

TOP = pathlib.Path(__file__).resolve().parents[2]
PROJECT = TOP / "docs" / "examples" / "awx"
HOSTS = 3


def ansible(name, *arguments, cwd, **variables):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    environment.update(ANSIBLE_LOCALHOST_WARNING="false", ANSIBLE_PIPELINING="1", **{key: str(value) for key, value in variables.items()})
    command = [sys.executable, "-m", "ansible", name, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder of collections that has ours, installed from the archive that a release is."""
    folder = tmp_path_factory.mktemp("installed")
    copy = folder / "copy"
    listed = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=TOP, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout: what belongs to the collection is not known")
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (TOP / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((TOP / name).read_bytes())
    done = ansible("galaxy", "collection", "build", "--output-path", folder, cwd=copy, ANSIBLE_HOME=folder / "home")
    assert done.returncode == 0, done.stderr
    [archive] = folder.glob("kataops-aio-*.tar.gz")
    done = ansible("galaxy", "collection", "install", archive, "-p", folder / "collections", cwd=folder, ANSIBLE_HOME=folder / "home")
    assert done.returncode == 0, done.stderr
    return folder


def test_the_archive_has_what_an_execution_environment_needs(installed):
    collection = installed / "collections" / "ansible_collections" / "kataops" / "aio"
    definition = yaml.safe_load((collection / "meta" / "execution-environment.yml").read_text())
    for name in definition["dependencies"].values():
        assert (collection / name).read_text().strip(), name
    lines = (collection / "requirements.txt").read_text().splitlines()
    assert not [line for line in lines if line.startswith("ansible")], "the environment's own ansible-core must stay what it is"


@pytest.mark.parametrize("playbook", ["audit", "remediate"])
def test_the_project_runs(installed, tmp_path, playbook):
    hosts = {"s%d" % number: {"ansible_connection": "replay", "ansible_python_interpreter": "/usr/bin/python3"} for number in range(HOSTS)}
    (tmp_path / "inventory.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    variables = {
        # As a workflow hands them on: what the jobs before made with set_stats
        "kata_aio": {"hosts": HOSTS, "verdicts": {}, "failing": []},
        "kata_aio_build": {"id": "qemu-1", "artifact": None, "built": False, "seconds": None},
        "kata_aio_headroom": 4,
        "awx_job_id": 7,
        **yaml.safe_load((PROJECT / "extra_vars.yml").read_text()),
        "kata_aio_report_dir": str(tmp_path / "report"),
    }
    done = ansible(
        "playbook", "-i", tmp_path / "inventory.json", "-e", json.dumps(variables), "%s.yml" % playbook,
        cwd=PROJECT,
        ANSIBLE_HOME=tmp_path,
        ANSIBLE_COLLECTIONS_PATH=installed / "collections",
        ANSIBLE_CONNECTION_PLUGINS=TOP / "tests" / "bench" / "connection",
        ANSIBLE_SHOW_CUSTOM_STATS="1",
        REPLAY_FACTS=TOP / "tests" / "fixtures" / "answers" / "healthy.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    handed_on = json.JSONDecoder().raw_decode(done.stdout.split("RUN: ", 1)[1])[0]["kata_aio"]
    assert handed_on["hosts"] == HOSTS and handed_on["verdicts"]["ok"] == HOSTS and handed_on["limit"] is None


def test_each_wrapper_names_a_playbook_of_ours():
    for path in PROJECT.glob("*.yml"):
        plays = yaml.safe_load(path.read_text())
        if isinstance(plays, list):
            [play] = plays
            namespace, collection, name = play["ansible.builtin.import_playbook"].split(".")
            assert (namespace, collection) == ("kataops", "aio")
            assert (TOP / "playbooks" / ("%s.yml" % name)).is_file() and name == path.stem


def test_the_survey_asks_for_variables_that_there_are():
    survey = json.loads((PROJECT / "survey.json").read_text())
    answers = {}
    for question in survey["spec"]:
        wanted = INPUTS[question["variable"]]
        if "choices" in question:
            assert tuple(question["choices"]) == wanted.choices
        default = question["default"]
        answers[question["variable"]] = default.split("\n") if question["type"] == "multiselect" else default
    assert problems(answers) == []
    assert problems(yaml.safe_load((PROJECT / "extra_vars.yml").read_text())) == []

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kata_aio_report under a real ansible-playbook: real hostvars, real facts, whatever ansible-core runs these tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import yaml
from ansible_collections.kataops.aio.plugins.module_utils._version import VERSION
from ansible_collections.kataops.aio.plugins.plugin_utils._report.model import report_model
from ansible_collections.kataops.aio.tests.unit.plugins.plugin_utils import report_fleet as fleet

# Gives a host the facts that the module would have returned, as the module does: as ansible_facts of its result.
GIVE_FACTS = """
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        return {"changed": False, "ansible_facts": {"kata_aio": self._task.args["facts"]}}
"""


class Controller:
    """A folder with a playbook, an inventory and the fleet's data, and ansible-playbook on it."""

    def __init__(self, folder, hosts):
        self.folder = folder
        (folder / "action_plugins").mkdir()
        (folder / "action_plugins/give_facts.py").write_text(GIVE_FACTS)
        variables = {
            item["host"]: {"fleet_before": item["before"], "fleet_after": item["after"], "fleet_outcome": item["outcome"], "fleet_lost": item["lost"]}
            for item in hosts
        }
        (folder / "fleet.json").write_text(json.dumps(variables))
        (folder / "inventory").write_text("".join(item["host"] + "\n" for item in hosts))

    def run(self, *options, arguments=(), first=()):
        """Report once for each of the options: the results (one, where there is one), and the finished process."""
        reports = []
        for number, each in enumerate(options):
            name = "made%d" % number
            reports += [
                {"kataops.aio.kata_aio_report": each, "run_once": True, "register": name, "ignore_errors": True},
                {
                    "ansible.builtin.copy": {"content": "{{ %s }}" % name, "dest": "%s/%s.json" % (self.folder, name), "mode": "0600"},
                    "run_once": True,
                },
            ]
        tasks = [
            *first,
            {"give_facts": {"facts": "{{ mine.fleet_before }}"}, "when": "mine.fleet_before is not none"},
            {
                "ansible.builtin.set_fact": {"kata_aio_before": "{{ ansible_facts.kata_aio }}"},
                "when": "mine.fleet_after is not none",
            },
            {"give_facts": {"facts": "{{ mine.fleet_after }}"}, "when": "mine.fleet_after is not none"},
            {"ansible.builtin.set_fact": {"kata_aio_outcome": "{{ mine.fleet_outcome }}"}, "when": "mine.fleet_outcome is not none"},
            {"ansible.builtin.fail": {"msg": "lost"}, "when": "mine.fleet_lost"},
            *reports,
        ]
        play = {
            "hosts": "all",
            "gather_facts": False,
            "connection": "local",
            "vars": {
                "ansible_python_interpreter": sys.executable,
                "mine": "{{ (lookup('ansible.builtin.file', '%s') | from_json)[inventory_hostname] }}" % (self.folder / "fleet.json"),
            },
            "tasks": tasks,
        }
        (self.folder / "playbook.yml").write_text(yaml.safe_dump([play]))
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_") or key == "ANSIBLE_COLLECTIONS_PATH"}
        environment.update(ANSIBLE_FORKS="2", ANSIBLE_LOCALHOST_WARNING="false", COLUMNS="80", ANSIBLE_HOME=str(self.folder / "home"))
        done = subprocess.run(
            [sys.executable, "-m", "ansible", "playbook", "-i", "inventory", "playbook.yml", *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert "DEPRECAT" not in done.stdout + done.stderr
        made = []
        for number in range(len(options)):
            path = self.folder / ("made%d.json" % number)
            assert path.exists(), done.stdout + done.stderr
            made.append(json.loads(path.read_text()))
        return made if len(made) > 1 else made[0], done


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The small fleet's report in every format, made once: (result, output, folder)."""
    controller = Controller(tmp_path_factory.mktemp("controller"), fleet.small())
    options = {
        "dest": "reports",
        "formats": ["json", "html", "markdown", "csv", "junit", "prometheus"],
        "fail_on": "broken",
        "query": "hosts[?verdict=='broken'].host",
        "run": {"command": "remediate", "waves": [1, "10%"], "budget": 2, "started_at": "2026-01-31T09:00:00Z"},
    }
    made, done = controller.run(options)
    return made, done, controller.folder


def test_the_report_is_the_models(whole):
    folder = whole[2]
    written = json.loads((folder / "reports/kata-aio-report.json").read_text())
    expected = json.loads(json.dumps(report_model(fleet.small(), written["run"], VERSION, fail_on="broken")))
    expected["generated_at"] = written["generated_at"]
    assert written == expected


def test_the_run_is_told(whole):
    run = json.loads((whole[2] / "reports/kata-aio-report.json").read_text())["run"]
    assert run.pop("seconds") > 0
    assert run == {
        "command": "remediate",
        "check_mode": False,
        "limit": None,
        "waves": ["1", "10%"],
        "budget": "2",
        "started_at": "2026-01-31T09:00:00Z",
    }


def test_results(whole):
    made, done, folder = whole
    assert made["changed"] is False
    assert made["failing"] == ["h5", "h6", "h7"]
    assert made["limit"] == "h5,h6,h7"
    assert made["query_result"] == ["h5", "h6"]
    assert made["totals"]["outcomes"]["unreachable"] == 1
    assert made["artifact"]["failing"] == made["failing"]
    assert made["paths"]["html"] == str(folder / "reports/kata-aio-report.html")
    assert len(json.dumps(made["artifact"])) < 2000
    assert "evidence" not in json.dumps(made)


def test_policy_fails_the_task_with_what_to_do(whole):
    made, done, folder = whole
    assert made["failed"] is True
    for words in ("3 of 8 hosts count as failing (kata_aio_fail_on: broken)", "h6: /opt: No space left on device", "--limit h5,h6,h7"):
        assert words in made["msg"]


def test_the_table_is_shown(whole):
    made, done, folder = whole
    assert made["table"].splitlines()[0] in done.stdout
    assert "2 broken, 1 degraded and 1 unknown of 7 hosts." in done.stdout
    assert max(len(line) for line in made["table"].splitlines()) <= 80


def test_healthy_fleet(tmp_path):
    controller = Controller(tmp_path, [fleet.item("n%d" % number, fleet.healthy("n%d" % number, number)) for number in range(3)])
    made, done = controller.run({"fail_on": "degraded", "show": False, "run": {"command": "remediate"}})
    assert made["failed"] is False
    assert made["paths"] == {}
    assert made["limit"] is None
    assert made["totals"]["outcomes"]["converged"] == 3
    assert "Block I/O works" not in done.stdout


BAD = [
    ({"formats": ["pdf"]}, "value of formats must be one or more of"),
    ({"dset": "x"}, "Unsupported parameters"),
    ({"hosts": ["nobody"]}, "not in the inventory: nobody"),
    ({"name": "../x", "dest": "."}, "not a file name"),
    ({"query": "hosts[?"}, "kata_aio_query"),
    ({"run": {"started_at": "yesterday"}}, "no time: 'yesterday'"),
    ({"dest": "inventory"}, "the report could not be written"),
]


def test_bad_input_gets_one_clear_message(tmp_path):
    controller = Controller(tmp_path, [fleet.item("n1", fleet.healthy("n1"))])
    results, done = controller.run(*(options for options, words in BAD))
    for made, (_options, words) in zip(results, BAD):
        assert made["failed"] is True
        assert words in made["msg"]
    assert "Traceback" not in done.stdout + done.stderr


def test_facts_that_ansible_shares_between_hosts_are_refused(tmp_path):
    """ansible-core 2.21 makes one dictionary of facts for all hosts out of a run_once set_fact; older ones do not. No version may mix hosts up."""
    controller = Controller(tmp_path, [fleet.item("n1", fleet.healthy("n1")), fleet.item("n2", fleet.broken("n2"))])
    made, done = controller.run({"show": False}, first=[{"ansible.builtin.set_fact": {"x": 1}, "run_once": True}])
    if made["failed"]:
        assert "its facts are those of" in made["msg"]
    else:
        assert (made["totals"]["verdicts"]["ok"], made["totals"]["verdicts"]["broken"]) == (1, 1)

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a run ends, under a real ansible-playbook: no green for nothing, each failing host with its own reason, a report in any case, a fresh clone."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
HEALTHY = {"ansible_connection": "replay", "ansible_python_interpreter": "/usr/bin/python3"}
SUDO = "#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n"
PLAYBOOKS = ["kataops.aio.audit", "kataops.aio.remediate", "kataops.aio.rollback", "kataops.aio.benchmark"]


@pytest.fixture
def fleet(tmp_path):
    """A folder with an inventory of healthy hosts and of those that cannot be looked at, each for another reason."""
    (tmp_path / "sudo").write_text(SUDO)
    (tmp_path / "sudo").chmod(0o755)
    shutil.copy(TOP / "tests" / "fixtures" / "answers" / "healthy.json", tmp_path / "answer.json")
    local = {"ansible_connection": "local", "ansible_become_exe": str(tmp_path / "sudo"), "ansible_python_interpreter": sys.executable}
    bad = {
        "nopython": {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": "/nowhere/python3"},
        "nosudo": {**local, "ansible_become_user": "nobody"},
        "gone1": {"ansible_host": "127.0.0.1", "ansible_port": 1},
        "gone2": {"ansible_host": "127.0.0.1", "ansible_port": 1},
    }
    children = {"good": {"hosts": {"well1": HEALTHY, "well2": HEALTHY}}, "bad": {"hosts": bad}}
    variables = {"kata_aio_report_dir": str(tmp_path / "report")}
    (tmp_path / "inventory.json").write_text(json.dumps({"all": {"vars": variables, "children": children}}))
    return tmp_path


def play(folder, *arguments, cwd=None, **more):
    """ansible-playbook's exit status and what it said, with the lines of its recap as ``{host: {ok: n, failed: n, ...}}``."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_") or name == "ANSIBLE_COLLECTIONS_PATH"}
    environment.update(
        ANSIBLE_CONNECTION_PLUGINS=str(TOP / "tests" / "bench" / "connection"),
        ANSIBLE_HOME=str(folder),
        ANSIBLE_PIPELINING="1",
        ANSIBLE_LOCALHOST_WARNING="false",
        ANSIBLE_NOCOLOR="1",
        COLUMNS="200",
        REPLAY_FACTS=str(folder / "answer.json"),
        **more,
    )
    command = [sys.executable, "-m", "ansible", "playbook", *arguments]
    done = subprocess.run(command, cwd=cwd or folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
    text = done.stdout + done.stderr
    recap = {host: dict(re.findall(r"(\w+)=(\d+)", counts)) for host, counts in re.findall(r"^(\S+) +: (ok=.*)$", text, re.MULTILINE)}
    return done.returncode, text, recap


def report(folder):
    return json.loads((folder / "report" / "kata-aio-report.json").read_text())


@pytest.mark.parametrize("playbook", ["kataops.aio.audit", "kataops.aio.remediate"])
def test_the_blame_is_on_the_right_hosts(fleet, playbook):
    code, text, recap = play(fleet, "-i", "inventory.json", playbook)
    assert code not in (0, 250), text
    assert {host for host, counts in recap.items() if counts["failed"] != "0"} == {"nopython", "nosudo"}, text
    assert {host for host, counts in recap.items() if counts["unreachable"] != "0"} == {"gone1", "gone2"}, text
    assert text.count("4 of 6 hosts fail (kata_aio_fail_on: broken)") == 1, text
    hosts = {entry["host"]: entry for entry in report(fleet)["hosts"]}
    assert {host: entry["outcome"] for host, entry in hosts.items() if entry["outcome"] in ("failed", "unreachable")} == {
        "nopython": "failed", "nosudo": "failed", "gone1": "unreachable", "gone2": "unreachable",
    }  # fmt: skip
    assert re.search("not found", hosts["nopython"]["error"]["message"])
    assert re.search("sudo.*password|password.*sudo", hosts["nosudo"]["error"]["message"])
    assert "Connection refused" in hosts["gone1"]["error"]["message"]
    # Hosts with the same words share a line
    assert "Unreachable in phase observe: gone1, gone2: " in text


@pytest.mark.parametrize("playbook", ["kataops.aio.audit", "kataops.aio.remediate", "kataops.aio.rollback"])
@pytest.mark.parametrize("more", [["-e", "kata_aio_fail_on=never"], ["--check"]], ids=["never", "check"])
def test_a_fleet_that_cannot_be_looked_at_has_a_report_and_is_no_success(fleet, playbook, more):
    code, text, recap = play(fleet, "-i", "inventory.json", "--limit", "gone1,gone2", playbook, *more)
    assert code not in (0, 250), text
    assert {host: counts["unreachable"] for host, counts in recap.items()} == {"gone1": "1", "gone2": "1"}, text
    assert report(fleet)["totals"]["outcomes"]["unreachable"] == 2


@pytest.mark.parametrize("playbook", PLAYBOOKS)
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-i", "nowhere.yml"], "the inventory is missing or has no hosts"),
        (["-i", "inventory.json", "-e", "kata_aio_hosts=kata_hosts"], "the inventory's groups are: bad, good"),
        (["-i", "inventory.json", "-e", "kata_aio_hosts=good", "--limit", "gone1"], "none of them is within --limit gone1"),
        (["-i", "inventory.json", "-e", "kata_aio_hosts=well1:!good"], "none matches this pattern"),
    ],
    ids=["inventory", "group", "limit", "excluded"],
)
def test_a_run_that_looks_at_nothing_is_an_error(fleet, playbook, arguments, words):
    code, text, _recap = play(fleet, *arguments, playbook)
    assert code != 0, text
    assert "no host was looked at" in text
    assert words in " ".join(text.split()), text
    assert not (fleet / "report").exists()


@pytest.mark.parametrize("arguments", [["--limit", "well1"], ["--limit", "@hosts"], ["--tags", "plan"], ["-e", "kata_aio_hosts=good:&well1"]], ids=str)
def test_hosts_that_match_are_looked_at(fleet, arguments):
    (fleet / "hosts").write_text("well1\nwell2\n")
    code, text, _recap = play(
        fleet, "-i", "inventory.json", *arguments, *(["-e", "kata_aio_hosts=good"] if "--tags" in arguments else []), "kataops.aio.remediate"
    )
    assert code == 0, text


def test_a_query_is_answered_on_the_terminal_and_in_a_file(fleet):
    _code, text, _recap = play(fleet, "-i", "inventory.json", "kataops.aio.audit", "--limit", "good", "-e", "kata_aio_query=hosts[].host")
    assert 'hosts[].host:\n[\n  "well1",\n  "well2"\n]' in text, text
    answer = fleet / "report" / "kata-aio-report.query.json"
    assert json.loads(answer.read_text()) == {"query": "hosts[].host", "answer": ["well1", "well2"]}
    play(fleet, "-i", "inventory.json", "kataops.aio.audit", "--limit", "good")
    assert not answer.exists()


@pytest.mark.parametrize(("playbook", "library", "more"), [("remediate", "tomlkit", []), ("audit", "jmespath", ["-e", "kata_aio_query=hosts"])])
def test_a_missing_library_is_told_before_a_host_is_touched(fleet, playbook, library, more):
    """sitecustomize hides the library from this Python."""
    hide = "import importlib.util\nfind = importlib.util.find_spec\nimportlib.util.find_spec = lambda name, *more: None if name == %r else find(name, *more)\n"
    (fleet / "sitecustomize.py").write_text(hide % library)
    code, text, _recap = play(fleet, "-i", "inventory.json", "--limit", "good", f"kataops.aio.{playbook}", *more, PYTHONPATH=str(fleet))
    assert code != 0, text
    assert f"lacks the library {library}" in " ".join(text.split())
    assert "no host was touched" in text
    assert "TASK [Observe" not in text


@pytest.mark.skipif(not (TOP / ".git").exists(), reason="this is no clone, so no other can be made of it")
def test_a_fresh_clone_needs_no_preparation(fleet, monkeypatch):
    clone = fleet / "clone"
    subprocess.run(["git", "clone", "-q", str(TOP), str(clone)], check=True)
    monkeypatch.delenv("ANSIBLE_COLLECTIONS_PATH", raising=False)
    code, text, _recap = play(fleet, "-i", str(fleet / "inventory.json"), "--limit", "good", "playbooks/audit.yml", cwd=clone)
    assert code == 0, text
    assert report(fleet)["totals"]["verdicts"]["ok"] == 2

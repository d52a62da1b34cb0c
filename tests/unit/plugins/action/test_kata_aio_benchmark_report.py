# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was measured on a fleet, as a document, a table and a file."""

from __future__ import annotations

import datetime
import json
from unittest import mock

import pytest
from ansible_collections.kataops.aio.plugins.action.kata_aio_benchmark_report import ActionModule
from ansible_collections.kataops.aio.plugins.plugin_utils._report.benchmark import benchmark_report, table_lines

NOW = datetime.datetime(2026, 1, 31, 9, 3, 34, tzinfo=datetime.timezone.utc)


def numbers(rate, cpu, throughput_ratio, cpu_ratio):
    return {
        "bytes_per_second": rate, "requests_per_second": rate // 65536, "cpu_us_per_request": cpu,
        "throughput_ratio": throughput_ratio, "cpu_ratio": cpu_ratio,
    }  # fmt: skip


def result(**more):
    one = numbers(2_000_000_000, 26.4, 1.0, 1.0)
    two = numbers(2_500_000_000, 8.45, 1.25, 0.32)
    engines = {
        "threads": {"ran": True, "observed": "threads", "reason": None, "write": one, "read": one},
        "native": {"ran": True, "observed": "native", "reason": None, "write": two, "read": two},
        "io_uring": {"ran": False, "observed": None, "reason": "this QEMU was built without it", "write": None, "read": None},
    }
    storage = {"path": "/var/lib/containerd", "filesystem": "xfs"}
    return {
        "binary": "/opt/kata/bin/qemu", "version": "8.2.4", "storage": storage, "reason": None, "engines": engines, "changed": False, "item": "x", **more,
    }  # fmt: skip


def unmeasured(reason):
    return {"binary": "/opt/kata/bin/qemu", "version": None, "reason": reason, "engines": {}, "changed": False}


@pytest.fixture
def registered():
    return {
        "h1": {"results": [result()], "changed": False},
        "h2": result(),
        "h3": {"results": [unmeasured("/var/lib: 12 MiB are free")]},
        "h4": {"results": [], "skipped": True},
        "h5": None,
        "h6": {"results": [{"failed": True, "msg": "Timed out after 1800 seconds."}], "failed": True},
        "h7": {"results": [{"skipped": True, "msg": "remote module does not support check mode"}], "skipped": True},
    }


def test_document(registered):
    report = benchmark_report(registered, {"h5"}, NOW)
    assert (report["schema_version"], report["generated_at"]) == (1, "2026-01-31T09:03:34Z")
    hosts = {entry["host"]: entry for entry in report["hosts"]}
    assert [len(hosts[name]["benchmarks"]) for name in sorted(hosts)] == [1, 1, 1, 0, 0, 0, 0]
    assert hosts["h1"]["reason"] is None and "item" not in hosts["h1"]["benchmarks"][0]
    assert hosts["h1"]["benchmarks"] == hosts["h2"]["benchmarks"]
    assert hosts["h3"]["reason"] == "/var/lib: 12 MiB are free"
    assert hosts["h5"]["reason"] == "it failed or was lost before anything was measured"
    assert hosts["h6"]["reason"] == "Timed out after 1800 seconds."
    assert "check mode" in hosts["h7"]["reason"]
    json.dumps(report)


def test_no_qemu_that_answers_is_told():
    report = benchmark_report({"h1": {"results": [], "changed": False}}, set(), NOW)
    assert report["hosts"][0]["reason"].startswith("no QEMU of Kata's that answers was found")


def test_table(registered):
    lines = table_lines(benchmark_report(registered, {"h5"}, NOW))
    text = "\n".join(lines)
    assert "h1: /opt/kata/bin/qemu (8.2.4), /var/lib/containerd (xfs)" in lines
    assert "  native    2500 (1.25)      8.4 (0.32)       2500 (1.25)      8.4 (0.32)" in lines
    assert "  io_uring  - this QEMU was built without it" in lines
    assert text.index("h3: /var/lib") < text.index("h1: /opt")
    assert max(map(len, lines)) <= 100


def test_table_of_a_large_fleet_and_of_a_host_that_would_steer_the_terminal():
    report = benchmark_report({"h%d" % number: {"results": [unmeasured("\x1b[2Jbad\nluck")]} for number in range(50)}, set(), NOW)
    lines = table_lines(report, 3)
    assert lines[-1] == "… and 47 more hosts; the file has all of them"
    assert "h0:  [2Jbad luck" in lines


def test_silent_fall_back_is_marked():
    measured = result()
    measured["engines"]["native"].update(observed="threads", reason="QEMU accepts native but uses threads in silence")
    assert any("↳ QEMU accepts native but uses threads" in line for line in table_lines(benchmark_report({"h1": measured}, set(), NOW)))


class HostVars(dict):
    raw_get = dict.get


def act(tmp_path, hostvars, **options):
    action = ActionModule(*[mock.MagicMock()] * 6)
    action._task.async_val, action._task.args = 0, {"dest": str(tmp_path / "reports"), **options}
    hosts = list(hostvars)
    return action.run(task_vars={"hostvars": HostVars(hostvars), "ansible_play_hosts": hosts, "ansible_play_hosts_all": hosts})


def test_file_and_hosts_without_kata(tmp_path):
    hostvars = {
        "h1": {"kata_aio_measured": result()},
        "h2": {"kata_aio_measured": {"results": [unmeasured("no room")]}},
        "plain": {"ansible_facts": {"kata_aio": {"verdict": "not_applicable"}}, "kata_aio_measured": {"results": []}},
    }
    made = act(tmp_path, hostvars)
    assert made["failing"] == ["h2"]
    assert [entry["host"] for entry in made["report"]["hosts"]] == ["h1", "h2"]
    assert json.loads((tmp_path / "reports" / "kata-aio-benchmark.json").read_text()) == made["report"]
    assert made["path"] == str(tmp_path / "reports" / "kata-aio-benchmark.json")


def test_a_folder_that_cannot_be_written_is_one_clear_failure(tmp_path):
    (tmp_path / "file").write_text("")
    made = act(tmp_path, {"h1": {"kata_aio_measured": result()}}, dest=str(tmp_path / "file" / "below"))
    assert made["failed"] and "kata_aio_report_dir" in made["msg"]

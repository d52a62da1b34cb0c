# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report model: every way that a host ends is told, and nothing is told that was not observed."""

from __future__ import annotations

import json
import pathlib
import re

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.plugin_utils._ansible.plain import plain
from ansible_collections.kataops.aio.plugins.plugin_utils._judge.assess import finding
from ansible_collections.kataops.aio.plugins.plugin_utils._report.model import engine_text, is_failing, natural_key, report_model
from ansible_collections.kataops.aio.tests.unit.plugins.plugin_utils import report_fleet as fleet
from hypothesis import given
from hypothesis import strategies as st

ROOT = pathlib.Path(__file__).resolve().parents[5]


@pytest.fixture(scope="module")
def report():
    return report_model(fleet.small(), fleet.RUN, "0.1.0", fail_on="broken")


def by_name(report):
    return {entry["host"]: entry for entry in report["hosts"]}


def one(before=None, after=None, outcome=None, lost=False, run=None, **more):
    return report_model([fleet.item("h1", before, after, outcome, lost)], run or {"command": "remediate"}, **more)["hosts"][0]


def test_hosts_are_sorted_as_people_count(report):
    assert [entry["host"] for entry in report["hosts"]] == ["h1", "h2", "h3", "h4", "h5", "h6", "h7", "h10"]


def test_totals(report):
    totals = report["totals"]
    assert totals["hosts"] == 8
    assert totals["verdicts_before"] == {"broken": 4, "degraded": 1, "unknown": 1, "ok": 1, "not_applicable": 1}
    assert totals["verdicts"] == {"broken": 2, "degraded": 1, "unknown": 1, "ok": 3, "not_applicable": 1}
    assert {name: count for name, count in totals["outcomes"].items() if count} == {
        "failed": 1,
        "rolled_back": 1,
        "unreachable": 1,
        "untouched": 1,
        "repaired": 2,
        "converged": 1,
        "not_applicable": 1,
    }
    assert totals["sandboxes"]["silent_fallbacks"] == 31
    assert totals["bytes_sent"] == 3 * (14 << 20)
    assert [(wave["wave"], wave["hosts"]) for wave in totals["waves"]] == [(1, 1), (2, 3)]


def test_sandboxes_whose_engine_cannot_be_told_are_counted():
    facts = fleet.facts("h1", by_engine={"native": 3, "unknown": 2})
    report = report_model([fleet.item("h1", facts)], {"command": "audit"})
    assert report["totals"]["sandboxes"]["by_engine"] == {"threads": 0, "native": 3, "io_uring": 0, "none_open": 12, "unknown": 2}
    assert report["hosts"][0]["before"]["sandboxes"]["by_engine"]["unknown"] == 2


def test_findings_are_of_the_latest_state(report):
    assert [(rule["id"], rule["hosts"]) for rule in report["findings"]][:2] == [("KAIO101", ["h5", "h6"]), ("KAIO108", ["h5", "h6"])]
    assert report["findings"][-1]["severity"] == "info"


def test_failing_hosts_have_a_reason_and_a_limit(report):
    assert report["failing"]["limit"] == "h5,h6,h7"
    why = {item["host"]: item["why"] for item in report["failing"]["hosts"]}
    assert why["h6"] == "/opt: No space left on device"
    assert "Ansible dropped this host" in why["h7"]


@pytest.mark.parametrize(
    "policy, verdict, outcome, failing",
    [
        ("broken", "broken", None, True),
        ("broken", "degraded", None, False),
        ("broken", "ok", "rolled_back", True),
        ("broken", "ok", "unreachable", True),
        ("broken", "unknown", None, False),
        ("degraded", "degraded", None, True),
        ("degraded", "unknown", None, True),
        ("degraded", "not_applicable", None, False),
        ("degraded", "ok", "converged", False),
        ("never", "broken", "failed", False),
    ],
)
def test_policy(policy, verdict, outcome, failing):
    assert is_failing({"verdict": verdict, "outcome": outcome}, policy) is failing


def test_broken_runtime_gets_no_engine_and_keeps_qemus_words(report):
    before = by_name(report)["h1"]["before"]
    runtime = before["runtimes"][0]
    assert runtime["engine"]["asked"] == "native"
    assert runtime["engine"]["effective"] == "none"
    assert before["findings"][0]["evidence"][0]["answered"] == fleet.SAID["native"]


def test_repair_is_told_from_before_to_after(report):
    host = by_name(report)["h1"]
    assert (host["verdict_before"], host["verdict"], host["outcome"]) == ("broken", "ok", "repaired")
    assert host["after"]["runtimes"][0]["qemu"]["path"] == fleet.OURS
    assert host["summary"]["engine_effective"] == "native"
    assert host["after"]["findings"] == []


def test_strategies_that_failed_are_told_with_their_reasons_beside_the_one_that_was_taken(report):
    host = by_name(report)["h2"]
    assert (host["strategy"], host["strategies_tried"]) == ("rebuild", fleet.TRIED)
    assert by_name(report)["h1"]["strategies_tried"] == []


def test_a_host_that_fell_back_is_not_counted_as_repaired():
    (host,) = report_model([fleet.item("h1", fleet.degraded("h1"), fleet.degraded("h1"), fleet.record("h1", "degraded", 1, "fallback"))], {})["hosts"]
    assert (host["outcome"], host["verdict"]) == ("degraded", "degraded")


def test_silent_fall_back_is_seen(report):
    runtime = by_name(report)["h4"]["before"]["runtimes"][0]
    assert (runtime["engine"]["asked"], runtime["engine"]["effective"]) == ("io_uring", "threads")


def test_processes_and_configuration_texts_are_left_out(report):
    text = json.dumps(report)
    assert '"processes"' not in text
    assert '"values"' not in text


@pytest.mark.parametrize(
    "change, effective",
    [
        ({"hypervisor": "clh"}, None),
        ({"values": {"path": "/not/examined", "block_device_aio": "native"}}, None),
        # runtime-rs 3.20 always asks for io_uring, whatever the file says.
        ({"runtime": "rs", "release": "3.20.0"}, "io_uring"),
        # runtime-rs before 3.20 names no engine.
        ({"runtime": "rs", "release": "3.19.0"}, "threads"),
    ],
)
def test_effective_engine_follows_the_runtime(change, effective):
    facts = fleet.facts("h1", [dict(fleet.runtime(), **change)])
    assert one(facts)["before"]["runtimes"][0]["engine"]["effective"] == effective


def test_native_without_direct_fails_although_qemu_has_it():
    facts = fleet.facts("h1", [fleet.runtime(direct=False)], findings=[finding("native_without_direct", fleet.CONFIG)], verdict="broken")
    engine = one(facts)["before"]["runtimes"][0]["engine"]
    assert engine["effective"] == "none"
    assert "block_device_cache_direct" in engine["reason"]


def test_qemu_that_does_not_answer():
    silent = dict(fleet.qemu(), status="timed_out", reason="it gave no answer within 10 s", engines={})
    runtime = one(fleet.facts("h1", qemus=[silent], findings=[finding("qemu_timed_out", fleet.CONFIG)], verdict="broken"))["before"]["runtimes"][0]
    assert runtime["engine"] == {"asked": "native", "effective": "none", "reason": "it gave no answer within 10 s", "source": fleet.CONFIG}


@pytest.mark.parametrize(
    "before, run, outcome",
    [
        (fleet.healthy("h1"), {"command": "remediate"}, "converged"),
        (fleet.broken("h1"), {"command": "remediate"}, "untouched"),
        (fleet.broken("h1"), {"command": "remediate", "check_mode": True}, "would_change"),
        (fleet.facts("h1", verdict="broken", strategy="impossible"), {"command": "remediate", "check_mode": True}, "untouched"),
        (fleet.facts("h1", [], [], verdict="not_applicable"), {"command": "remediate"}, "not_applicable"),
        (fleet.broken("h1"), {"command": "audit"}, None),
        (None, {"command": "remediate"}, None),
    ],
)
def test_hosts_that_were_passed_by(before, run, outcome):
    assert one(before, run=run)["outcome"] == outcome


def test_a_host_in_the_middle_is_not_called_untouched():
    assert one(fleet.broken("h1"), outcome={"phase_reached": "stage", "outcome": None})["outcome"] is None


@pytest.mark.parametrize("outcome, told", [(None, "unreachable"), ("repaired", "unreachable"), ("rolled_back", "rolled_back"), ("failed", "failed")])
def test_lost_hosts(outcome, told):
    record = None if outcome is None else fleet.record("h1", outcome, 1)
    entry = one(fleet.broken("h1"), outcome=record, lost=True)
    assert entry["outcome"] == told
    assert (entry["error"] is not None) == (told == "unreachable")


def test_a_host_without_facts_is_unknown_and_says_why():
    entry = one()
    assert (entry["verdict"], entry["verdict_before"], entry["before"], entry["plan"]) == ("unknown", "unknown", None, None)
    assert entry["reason"] == "no facts were collected from this host"


def test_facts_of_another_schema_are_not_read():
    entry = one(dict(fleet.healthy("h1"), schema_version=7))
    assert entry["verdict"] == "unknown"
    assert "schema_version 7" in entry["reason"]


def test_facts_of_another_host_are_refused():
    with pytest.raises(AioError, match="its facts are those of h2"):
        one(fleet.healthy("h2"))


@pytest.mark.parametrize("record, words", [("done", "no mapping"), ({"outcome": "fine"}, "unknown outcome 'fine'")])
def test_records_that_break_the_contract(record, words):
    with pytest.raises(AioError, match=words) as caught:
        one(fleet.healthy("h1"), outcome=record)
    assert str(caught.value).startswith("h1: ")


def test_unknown_verdict_and_policy():
    with pytest.raises(AioError, match="unknown verdict 'splendid'"):
        one(fleet.facts("h1", verdict="splendid"))
    with pytest.raises(AioError, match="fail_on"):
        one(fail_on="sometimes")


def test_numbers_that_jinja_made_text_of():
    entry = one(fleet.broken("h1"), outcome=fleet.record("h1", "repaired", "1", seconds="9.4000001", bytes_sent="1024"))
    assert (entry["seconds"], entry["bytes_sent"], entry["wave"]) == (9.4, 1024, 1)


def test_a_step_takes_until_the_next_one_begins():
    """Times as Jinja on ansible-core 2.16 hands them over: texts."""
    steps = [{"name": "stage", "at": "1000.5"}, {"name": "switch", "at": "1003.0"}, {"name": "verify", "at": "1003.25"}]
    entry = one(fleet.broken("h1"), outcome=dict(fleet.record("h1", "repaired", 1, seconds="10.0"), started="1000.0", steps=steps))
    assert [(step["name"], step["seconds"]) for step in entry["steps"]] == [("stage", 2.5), ("switch", 0.25), ("verify", 6.75)]
    record = dict(fleet.record("h1", "repaired", 1, seconds=10), started=1000, ended=1100, steps=[*steps, {"name": "health", "at": 1099}])
    assert [step["seconds"] for step in one(fleet.broken("h1"), outcome=record)["steps"]] == [2.5, 0.25, 95.75, 1]
    lost = one(fleet.broken("h1"), outcome={"phase_reached": "switch", "started": 1000.0, "steps": steps[:2]}, lost=True)
    assert [step["seconds"] for step in lost["steps"]] == [2.5, None]


def test_empty_fleet():
    report = report_model([], {})
    assert report["totals"]["hosts"] == 0
    assert report["run"]["command"] is None
    assert report["failing"]["limit"] is None


def test_engine_text():
    assert engine_text("native", "native") == "native"
    assert engine_text("native", "none") == "native → fails"
    assert engine_text("io_uring", "threads") == "io_uring → threads"
    assert engine_text(None, None) is None


def test_plain_leaves_only_json():
    class Text(str):
        """As ansible's unsafe and tagged strings are."""

        def __str__(self):
            raise AssertionError("must not be asked")

    made = plain({Text("k"): (Text("v"), {1}, float("nan"), b"\xff", "a\udcffb", object)})
    assert type(next(iter(made))) is str  # pylint: disable=unidiomatic-typecheck
    assert type(made["k"][0]) is str  # pylint: disable=unidiomatic-typecheck
    assert made["k"][:5] == ["v", [1], None, "\ufffd", "a\ufffdb"]
    json.dumps(made, allow_nan=False).encode("utf-8")


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@given(st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_plain_is_always_json(value):
    made = plain(value)
    json.dumps(made, allow_nan=False, ensure_ascii=False).encode("utf-8")
    assert plain(made) == made


@given(st.lists(st.text(max_size=8)))
def test_any_names_can_be_sorted(names):
    assert sorted(sorted(names, key=natural_key)) == sorted(names)


# --- the schema ----------------------------------------------------------------------------------------------------------------------------------


def schema():
    return json.loads((ROOT / "docs/report.schema.json").read_text("utf-8"))


def closed(part):
    """The schema with no room for keys that it does not name."""
    if isinstance(part, dict):
        made = {key: closed(value) for key, value in part.items()}
        return dict(made, additionalProperties=False) if "properties" in made else made
    return [closed(item) for item in part] if isinstance(part, list) else part


@pytest.mark.parametrize("hosts", [fleet.small(), fleet.big(60), []])
def test_the_schema_names_every_key(hosts):
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    report = report_model(hosts, fleet.RUN, "0.1.0", fail_on="degraded")
    jsonschema.Draft202012Validator(closed(schema())).validate(json.loads(json.dumps(report)))


def test_the_page_on_the_schema_names_every_key():
    page = (ROOT / "docs/report.md").read_text("utf-8")
    words = set(re.findall(r"[a-z_]+", page))

    def names(part):
        if isinstance(part, dict):
            for key, value in part.get("properties", {}).items():
                yield key
                yield from names(value)
            for key, value in part.items():
                if key != "properties":
                    yield from names(value)
        elif isinstance(part, list):
            for item in part:
                yield from names(item)

    assert sorted(set(names(schema())) - words) == []

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON, CSV, JUnit XML and Prometheus text, each read back by a reader that this project did not write."""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ET

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.plugin_utils._report.files import FORMATS, query_report, write_report
from ansible_collections.kataops.aio.plugins.plugin_utils._report.machine import (
    CSV_COLUMNS,
    csv_cell,
    render_csv,
    render_json,
    render_junit,
    render_prometheus,
)
from ansible_collections.kataops.aio.plugins.plugin_utils._report.model import report_model
from ansible_collections.kataops.aio.tests.unit.plugins.plugin_utils import report_fleet as fleet
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def report():
    return report_model(fleet.small(), fleet.RUN, "0.1.0", fail_on="broken")


def test_json_is_the_report(report):
    assert json.loads(render_json(report)) == report


# --- CSV -----------------------------------------------------------------------------------------------------------------------------------------


def test_csv_has_a_row_for_each_runtime(report):
    rows = list(csv.DictReader(io.StringIO(render_csv(report), newline="")))
    assert [row["host"] for row in rows] == ["h1", "h2", "h3", "h3", "h4", "h5", "h6", "h7", "h10"]
    assert tuple(rows[0]) == CSV_COLUMNS
    first = rows[0]
    assert (first["verdict_before"], first["verdict"], first["engine_effective"], first["native"]) == ("broken", "ok", "native", "works")
    assert rows[5]["findings"] == "KAIO101 KAIO108"
    assert rows[7]["contexts_free"] == ""


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1"])
def test_csv_has_no_formulas(text):
    assert csv_cell(text) == "'" + text


@given(st.text())
def test_csv_keeps_any_words(text):
    hosts = [fleet.item("h1", fleet.facts("h1"), None, {"outcome": "failed", "error": {"message": text}})]
    made = render_csv(report_model(hosts, {}))
    rows = list(csv.DictReader(io.StringIO(made, newline="")))
    assert len(rows) == 1
    assert rows[0]["error"].lstrip("'") == text.replace("\x00", "\ufffd").lstrip("'")


# --- JUnit XML -----------------------------------------------------------------------------------------------------------------------------------


def cases(report):
    root = ET.fromstring(render_junit(report).encode())
    return root, {(case.get("classname"), case.get("name")): [child.tag for child in case] for case in root.iter("testcase")}


def test_junit_cases(report):
    root, found = cases(report)
    assert found["h1", "kata-qemu"] == []
    assert found["h3", "kata-qemu-runtime-rs"] == []
    assert found["h4", "kata-qemu"] == ["system-out"]
    assert found["h5", "change"] == ["error"]
    assert found["h5", "kata-qemu"] == ["failure"]
    assert found["h7", "change"] == ["error"]
    assert found["h10", "kata"] == ["skipped"]
    suite = root[0]
    for counted, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(suite.get(counted)) == int(root.get(counted)) == len(list(root.iter(tag)))


def test_junit_follows_the_policy():
    hosts = [fleet.item("h4", fleet.degraded("h4"))]
    assert cases(report_model(hosts, {}, fail_on="degraded"))[1]["h4", "kata-qemu"] == ["failure"]
    assert cases(report_model(hosts, {}, fail_on="never"))[1]["h4", "kata-qemu"] == ["system-out"]


def test_junit_has_qemus_words(report):
    assert fleet.SAID["native"] in ET.tostring(cases(report)[0], encoding="unicode")


@given(st.text())
def test_junit_is_xml_whatever_hosts_say(text):
    hosts = [fleet.item(text or "h", None, None, {"outcome": "failed", "error": {"message": text, "next": text}})]
    root, found = cases(report_model(hosts, {}))
    assert len(found) == 1


# --- Prometheus ----------------------------------------------------------------------------------------------------------------------------------

SAMPLE = re.compile(r'^([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)*)\})? (-?[0-9.]+)$')


def samples(text):
    """The samples by the grammar of Prometheus' text format; fails on a line that breaks it."""
    made, typed = {}, set()
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        if line.startswith("# TYPE "):
            assert line.split()[2] not in typed
            typed.add(line.split()[2])
        elif not line.startswith("# HELP "):
            match = SAMPLE.match(line)
            assert match, line
            name, labels, value = match.groups()
            assert name in typed
            pairs = re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', labels or "")
            key = (name, tuple(sorted(pairs)))
            assert key not in made
            made[key] = float(value)
    return made


def test_prometheus(report):
    made = samples(render_prometheus(report))
    assert made["kata_aio_hosts", (("verdict", "broken"),)] == 2
    assert made["kata_aio_host_verdict", (("host", "h1"), ("verdict", "ok"))] == 1
    assert made["kata_aio_host_verdict", (("host", "h1"), ("verdict", "broken"))] == 0
    assert made["kata_aio_aio_contexts_free", (("host", "h6"),)] == 64
    assert made["kata_aio_sandboxes_fell_back", (("host", "h4"),)] == 31
    assert made["kata_aio_findings", (("host", "h6"), ("id", "KAIO101"), ("severity", "error"))] == 1


def test_what_is_not_known_has_no_sample(report):
    assert not [key for key in samples(render_prometheus(report)) if ("host", "h7") in key[1] and "verdict" not in key[0]]


@given(st.text())
def test_prometheus_labels_hold_any_words(text):
    hosts = [fleet.item(text, None)]
    assert samples(render_prometheus(report_model(hosts, {"command": text})))


# --- files and queries ---------------------------------------------------------------------------------------------------------------------------


def test_every_format_is_written(report, tmp_path):
    folder = tmp_path / "new" / "folder"
    paths = write_report(report, str(folder), "r", list(FORMATS))
    assert sorted(path.name for path in folder.iterdir()) == ["r.csv", "r.html", "r.json", "r.limit", "r.md", "r.prom", "r.xml"]
    assert sorted(paths) == sorted([*FORMATS, "limit"])
    assert (folder / "r.limit").read_text() == "h5\nh6\nh7\n"
    assert json.loads((folder / "r.json").read_text()) == report


def test_limit_goes_when_nothing_fails(report, tmp_path):
    write_report(report, str(tmp_path), "r", [])
    assert (tmp_path / "r.limit").exists()
    fine = report_model([fleet.item("n1", fleet.healthy("n1"))], {}, fail_on="broken")
    assert write_report(fine, str(tmp_path), "r", []) == {}
    assert list(tmp_path.iterdir()) == []


def test_a_reader_never_sees_a_part(report, tmp_path, monkeypatch):
    write_report(report, str(tmp_path), "r", ["json"])
    before = (tmp_path / "r.json").read_text()

    def fails(*args):
        raise OSError(28, "No space left on device", "r.json")

    monkeypatch.setattr("os.replace", fails)
    with pytest.raises(AioError, match="No space left on device"):
        write_report(report, str(tmp_path), "r", ["json"])
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".limit"] == ["r.json"]
    assert (tmp_path / "r.json").read_text() == before


def test_a_folder_that_is_a_file(report, tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(AioError, match="kata_aio_report_dir"):
        write_report(report, str(tmp_path / "x"), "r", ["json"])


def test_queries(report):
    assert query_report(report, "hosts[?verdict=='broken'].host") == ["h5", "h6"]
    assert query_report(report, "hosts[?summary.contexts_free < `100`].host") == ["h5", "h6"]
    with pytest.raises(AioError, match="kata_aio_query"):
        query_report(report, "hosts[?")

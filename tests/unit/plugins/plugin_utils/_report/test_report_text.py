# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The terminal's table fits, and no host's words break a table, a document or a terminal."""

from __future__ import annotations

import re

import pytest
from ansible_collections.kataops.aio.plugins.plugin_utils._judge.assess import finding
from ansible_collections.kataops.aio.plugins.plugin_utils._report.model import report_model
from ansible_collections.kataops.aio.plugins.plugin_utils._report.terminal import (
    fit,
    markdown_code,
    markdown_text,
    one_line,
    render_markdown,
    table_lines,
    text_width,
)
from ansible_collections.kataops.aio.tests.unit.plugins.plugin_utils import report_fleet as fleet
from hypothesis import given
from hypothesis import strategies as st


def lines(hosts, width=80, run=None, **more):
    return [line for tone, line in table_lines(report_model(hosts, fleet.RUN if run is None else run, fail_on="broken"), width, **more)]


@pytest.mark.parametrize("width", [80, 100, 132, 200])
@pytest.mark.parametrize("hosts", [fleet.small(), fleet.big(100)])
def test_fits(hosts, width):
    made = lines(hosts, width)
    assert max(text_width(line) for line in made) <= width


def test_long_names_are_cut_not_the_columns():
    name = "a-host-with-a-very-long-name.in-a-rack.in-a-room.of-a-data-centre.example.org"
    made = lines([fleet.item(name, fleet.broken(name))])
    row = made[2]
    assert text_width(row) <= 80
    assert "…" in row
    assert "native → fails" in row


def test_worst_first_and_how_many_more():
    made = lines(fleet.small(), max_rows=3)
    assert [line.split()[0] for line in made[2:5]] == ["h6", "h5", "h4"]
    assert made[5] == "… and 5 more, none worse"


def test_tones_go_with_verdicts():
    tones = {line.split()[0]: tone for tone, line in table_lines(report_model(fleet.small(), fleet.RUN)) if line[:1] == "h"}
    assert (tones["h1"], tones["h6"], tones["h4"], tones["h10"]) == ("ok", "broken", "degraded", "not_applicable")


def test_an_audit_has_no_outcomes_but_strategies():
    hosts = [fleet.item("h1", fleet.broken("h1"))]
    head = lines(hosts, run={"command": "audit"})[0]
    assert "Outcome" not in head
    assert "Strategy" in head


def test_summary_has_remedies():
    text = "\n".join(lines(fleet.small()))
    assert "2 broken, 1 degraded and 1 unknown of 7 hosts." in text
    words = " ".join(text.split())
    assert re.search(r"KAIO101 [^()]* \(2 hosts\) h5: /opt/kata/bin/qemu-system-x86_64: .* h6: /opt/kata/bin/\S+ the binary .* Remedy: \w", words)
    assert "h5, h6: fs.aio-max-nr: Room for 64 more. Remedy" in words
    assert "31 of 108 running sandboxes use threads unasked." in text
    assert "h2: reuse of /usr/bin/qemu-system-x86_64 failed: QEMU refuses Kata's device_add: <b>no bus</b> | pci-bridge-0" in words


def test_places_are_told_once_for_all_hosts_that_have_them():
    hosts = [fleet.item("h%d" % number, fleet.broken("h%d" % number)) for number in range(1, 21)]
    for number in range(5):
        hosts[number]["before"]["findings"][0]["where"] = "/opt/kata/bin/qemu-%d" % number
    hosts[0]["before"]["findings"][0]["detail"] = "/opt/kata/bin/qemu-0: built without libaio"
    text = " ".join(" ".join(lines(hosts)).split())
    assert "h6, h7 and 13 more: /opt/kata/bin/qemu-system-x86_64: the binary was built without libaio" in text
    assert "h1: /opt/kata/bin/qemu-0: built without libaio h2:" in text
    assert "h2: /opt/kata/bin/qemu-1: the binary was built without libaio 3 more places are in the report." in text


def test_a_terminal_is_not_steered():
    assert one_line("a\x1b[31mb\r\nc\x00\u202ed\u2028e\x9bf") == "a [31mb c d e f"


@given(st.text(), st.integers(min_value=1, max_value=40))
def test_fit_is_exact(text, width):
    assert text_width(fit(one_line(text), width)) == width


def test_empty_fleet():
    assert "No hosts were looked at." in lines([])


# --- Markdown ------------------------------------------------------------------------------------------------------------------------------------


def markdown_html(text):
    markdown_it = pytest.importorskip("markdown_it", reason="markdown-it-py is not installed")
    return markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table").render(text)


def test_markdown_renders_as_meant():
    document = render_markdown(report_model(fleet.small(), dict(fleet.RUN, limit="a|b"), "0.1.0", fail_on="broken"))
    html = markdown_html(document)
    assert "<img" not in html
    assert "Strategy reuse of /usr/bin/qemu-system-x86_64 failed: QEMU refuses Kata's device_add: &lt;b&gt;no bus&lt;/b&gt; | pci-bridge-0" in html
    assert "<script" not in html
    assert "</script" not in html.replace("&lt;/script", "")
    tables = re.findall(r"<table>.*?</table>", html, re.S)
    assert len(tables) == 3
    fleet_table = tables[2]
    assert fleet_table.count("<tr>") == 9
    assert fleet_table.count("<td") == 8 * 9
    assert "<code>aio=native was specified, but is not supported in this build.</code>" in html


@given(st.text(min_size=1))
def test_markdown_text_stays_text(text):
    html = markdown_html("x " + markdown_text(text))
    assert not re.search(r"<(?!/?p>)", html)


@given(st.text())
def test_markdown_code_stays_code(text):
    html = markdown_html("x " + markdown_code(text))
    if one_line(text):
        assert len(re.findall(r"<(?!/?p>|/?code>)", html)) == 0
        assert html.count("<code>") == 1


def test_what_is_left_out_is_told():
    item = fleet.item("h1", fleet.facts("h1", findings=[finding("excluded", fleet.CONFIG, fleet.CONFIG)], verdict="not_applicable"))
    assert "1 runtime is left out by kata_aio_exclude; the report names them." in lines([item])

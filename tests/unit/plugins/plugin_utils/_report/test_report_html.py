# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTML page as text: self-contained, and no word of a host is ever markup. test_report_page.py looks at it in a browser."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import re

import pytest
from ansible_collections.kataops.aio.plugins.plugin_utils._report.html import (
    bars,
    bytes_text,
    embedded_json,
    headline,
    pooled,
    render_html,
    seconds_text,
)
from ansible_collections.kataops.aio.plugins.plugin_utils._report.model import report_model
from ansible_collections.kataops.aio.tests.unit.plugins.plugin_utils import report_fleet as fleet
from hypothesis import given
from hypothesis import strategies as st


class Page(html.parser.HTMLParser):
    """The page's elements, and what its scripts and styles contain."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.inside, self.content = [], None, []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.inside = (tag, dict(attrs))
            self.content.append((tag, dict(attrs), ""))

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self.inside = None

    def handle_data(self, data):
        if self.inside:
            tag, attrs, text = self.content[-1]
            self.content[-1] = (tag, attrs, text + data)


@pytest.fixture(scope="module")
def report():
    return report_model(fleet.small(), dict(fleet.RUN, limit=fleet.NASTY), "0.1.0", fail_on="broken")


@pytest.fixture(scope="module")
def page(report):
    return Page(render_html(report))


def test_nothing_comes_from_outside(page):
    for tag, attrs in page.elements:
        for name in ("src", "href", "action", "data", "srcset"):
            assert attrs.get(name) is None or re.match(r"#|data:,$", attrs[name]), (tag, attrs)
    style = next(text for tag, attrs, text in page.content if tag == "style")
    assert "url(" not in style
    assert "@import" not in style


def test_words_of_hosts_are_never_markup(page):
    assert not [attrs for tag, attrs in page.elements if tag == "img"]
    assert not [attrs for tag, attrs in page.elements if any(name.startswith("on") for name in attrs)]
    assert not [attrs for tag, attrs in page.elements if "style" in attrs]
    assert [attrs.get("type") for tag, attrs, text in page.content if tag == "script"] == ["application/json", None]


def test_the_policy_allows_exactly_this_style_and_script(page):
    policy = next(attrs["content"] for tag, attrs in page.elements if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for tag, attrs, text in page.content:
        if attrs.get("type") != "application/json":
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert "%s-src 'sha256-%s'" % (tag, digest) in policy


def test_the_page_carries_the_report(page, report):
    data = json.loads(next(text for tag, attrs, text in page.content if attrs.get("id") == "data"))
    hosts = data["hosts"]
    for host in hosts:
        host["steps"] = data["pool"][host["steps"]]
        for state in filter(None, (host["before"], host["after"])):
            state.update({key: data["pool"][state[key]] for key in ("runtimes", "qemus", "libaio", "storage", "findings")})
    assert hosts == report["hosts"]


def test_for_screen_readers(page):
    tags = [tag for tag, attrs in page.elements]
    assert ("html", {"lang": "en"}) in page.elements
    assert tags.count("h1") == 1
    assert tags.count("main") == 1
    assert {"caption", "noscript", "title"} <= set(tags)
    assert all(attrs.get("scope") for tag, attrs in page.elements if tag == "th")
    assert all(attrs.get("type") == "button" for tag, attrs in page.elements if tag == "button")
    bars = [attrs for tag, attrs in page.elements if attrs.get("role") == "img"]
    assert [attrs["aria-label"] for attrs in bars] == [
        "Before: 1 OK, 1 Degraded, 4 Broken, 1 Unknown, 1 No Kata",
        "After: 3 OK, 1 Degraded, 2 Broken, 1 Unknown, 1 No Kata",
    ]


def test_a_large_fleet_makes_no_large_page():
    hosts, pool = pooled(report_model(fleet.big(1000), fleet.RUN)["hosts"])
    assert len(pool) < 100
    assert len(json.dumps([hosts, pool])) < 2_000_000


@given(st.text())
def test_embedded_json_cannot_leave_its_element(text):
    made = embedded_json({"a": text})
    assert not set(made) & set("<>&\u2028\u2029")
    assert json.loads(made) == {"a": text}


@pytest.mark.parametrize(
    "hosts, text, tone",
    [
        ([], "No hosts were looked at", "unknown"),
        ([fleet.item("n1", fleet.healthy("n1"))], "Block I/O works as configured on the host", "ok"),
        ([fleet.item("n%d" % n, fleet.healthy("n%d" % n)) for n in range(3)], "Block I/O works as configured on all 3 hosts", "ok"),
        ([fleet.item("n1", fleet.broken("n1"))], "1 broken of 1 host", "broken"),
        (fleet.small(), "2 broken, 1 degraded and 1 unknown of 7 hosts", "broken"),
        ([fleet.item("n1", fleet.facts("n1", [], [], verdict="not_applicable"))], "None of the hosts has Kata Containers", "not_applicable"),
    ],
)
def test_headline(hosts, text, tone):
    report = report_model(hosts, {})
    assert headline(report) == {"text": text, "tone": tone}
    assert text in render_html(report)


def test_bars_fill_their_width():
    made = bars(report_model(fleet.small(), {}))
    assert [one["label"] for one in made] == ["Before", "After"]
    for one in made:
        assert sum(part["width"] for part in one["parts"]) == pytest.approx(100, abs=0.01)
        assert sum(part["count"] for part in one["parts"]) == 8
    assert [one["label"] for one in bars(report_model([fleet.item("n1", fleet.healthy("n1"))], {}))] == ["Now"]


@pytest.mark.parametrize(
    "make, value, text",
    [
        (seconds_text, None, "–"),
        (seconds_text, 0.04, "0.0 s"),
        (seconds_text, 41.2, "41 s"),
        (seconds_text, 214, "3 min 34 s"),
        (seconds_text, 7500, "2 h 5 min"),
        (bytes_text, None, "–"),
        (bytes_text, 512, "512 B"),
        (bytes_text, 14 << 20, "14.0 MiB"),
        (bytes_text, 3 << 50, "3072 TiB"),
    ],
)
def test_amounts(make, value, text):
    assert make(value) == text

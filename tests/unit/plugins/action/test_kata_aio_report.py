# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kata_aio_report's own functions; tests/playbooks/test_report.py runs it under ansible-playbook."""

from __future__ import annotations

import pathlib

import yaml
from ansible_collections.kataops.aio.plugins.action.kata_aio_report import failure_message
from ansible_collections.kataops.aio.plugins.module_utils._version import VERSION

TOP = pathlib.Path(__file__).resolve().parents[4]


def test_long_limits_go_by_file():
    failing = {"policy": "broken", "limit": "x", "hosts": [{"host": "n%d" % number, "why": "w"} for number in range(50)]}
    message = failure_message(failing, 50, {"limit": "/r/kata-aio-report.limit"})
    assert message.endswith("--limit @/r/kata-aio-report.limit")
    assert "and 30 more" in message


def test_version_of_the_collection():
    assert yaml.safe_load((TOP / "galaxy.yml").read_text())["version"] == VERSION

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A change never breaks a runtime that Kata accepted before, and its rollback brings every byte back: on hosts of which Kata's own loaders have told."""

from __future__ import annotations

import pytest
from ansible_collections.kataops.aio.tests.unit.plugins.action.test_kata_config import Host
from ansible_collections.kataops.aio.tests.unit.plugins.plugin_utils._kata import corpus

CASES = [case for case in corpus.cases() if case.truth.get("change")]


@pytest.mark.skipif(not CASES, reason="no corpus of loader cases beside the project")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_neighbour_is_broken(case, tmp_path):
    host = Host(case.build(tmp_path))
    before, files = host.runtimes(), host.snapshot()
    result = host.run(**case.truth["change"])
    after = host.runtimes()
    if result.get("failed"):
        assert host.snapshot() == files, "refused, so nothing may have changed"
    for ident, runtime in before.items():
        if not runtime["refused"] and not runtime["unknown"]:
            assert not after[ident]["refused"] and not after[ident]["unknown"], (ident, after[ident]["problems"], after[ident]["unknown"])
    if result.get("failed"):
        return
    changed = {entry["id"] for entry in result["runtimes"]}
    for ident, runtime in before.items():
        if ident not in changed:
            assert after[ident]["values"] == runtime["values"], ident
    assert host.good(**case.truth["change"])["changed"] is False
    host.good(state="rolled_back")
    assert host.snapshot() == files

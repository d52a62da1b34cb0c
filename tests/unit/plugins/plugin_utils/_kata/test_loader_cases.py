# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's reader over every host of which Kata's own loaders said what they make of it (see corpus.py)."""

from __future__ import annotations

import pytest
from ansible_collections.kataops.aio.tests.unit.plugins.plugin_utils._kata import corpus

CASES = corpus.cases()


@pytest.mark.skipif(not CASES, reason="no corpus of loader cases beside the project")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_reader_says_what_the_loader_says(case, tmp_path):
    kata = corpus.observe(case.build(tmp_path))
    found = [corpus.judged(kata, wired) for wired in case.runtimes]
    wrong = {wired["handler"]: corpus.differences(runtime, wired["as_found"]) for wired, runtime in zip(case.runtimes, found)}
    assert not any(wrong.values()), (wrong, [runtime["problems"] for runtime in found])

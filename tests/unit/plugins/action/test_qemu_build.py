# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a build tells of its course."""

from __future__ import annotations

import re

import pytest
from ansible_collections.kataops.aio.plugins.action.qemu_build import Course


def told(seconds_of):
    """The lines of a build of 1000 steps whose step number n is reached after ``seconds_of(n)`` seconds."""
    course = Course()
    return [course.line({"total": 1000, "done": done, "phase_seconds": seconds_of(done), "phase": "build"}) for done in range(0, 1001, 20)]


@pytest.mark.parametrize(
    "seconds_of",
    [lambda done: done * 0.2, lambda done: done * 0.05 if done < 300 else 15 + (done - 300) * 0.6, lambda done: (done / 30) ** 2, lambda done: done**0.5 * 10],
    ids=["even", "another load comes", "ever slower", "ever faster"],
)
def test_an_estimate_never_grows(seconds_of):
    minutes = [int(found[1]) for line in told(seconds_of) if (found := re.search(r"at most about (\d+) min left", line))]
    assert minutes
    assert minutes == sorted(minutes, reverse=True)


def test_an_even_build_is_estimated_with_a_margin():
    lines = told(lambda done: done * 0.2)
    assert lines[0] == "[0/1000] 0 %"
    assert lines[5] == "[100/1000] 10 %, at most about 5 min left"
    assert not [line for line in lines if "slower" in line]


def test_a_build_that_slows_down_says_so():
    assert "[700/1000] 70 %, slower than before" in told(lambda done: done * 0.05 if done < 300 else 15 + (done - 300) * 0.6)


def test_before_the_compilation_the_phase_is_told():
    assert Course().line({"total": None, "phase": "fetch", "seconds": 12}) == "fetch, 12 s"

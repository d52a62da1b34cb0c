# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is made of measurements, and what is refused before any is made. Real QEMUs are measured in tests/integration_lab/test_qemu_bench.py."""

from __future__ import annotations

import os
import sys
import time

import pytest
from ansible_collections.kataops.aio.plugins.module_utils import _bench
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError


def run(requests, seconds, cpu):
    return {"requests": requests, "seconds": seconds, "cpu_seconds": cpu}


def engine(*runs, observed=None, reason=None):
    return {"observed": observed, "reason": reason, "write": list(runs), "read": list(runs)}


def test_medians_and_ratios():
    measured = {
        "native": engine(run(2000, 1, 0.01), run(3000, 1, 0.03), run(9000, 1, 0.9), observed="native"),
        "threads": engine(run(1000, 1, 0.02), run(4000, 2, 0.08), run(10, 1, 0.5), observed="threads"),
    }
    result = _bench.summary(measured)
    assert list(result) == ["threads", "native"]
    assert result["threads"]["write"] == {
        "bytes_per_second": 1000 * 65536, "requests_per_second": 1000, "cpu_us_per_request": 20.0, "throughput_ratio": 1.0, "cpu_ratio": 1.0,
    }  # fmt: skip
    assert result["native"]["read"] == {
        "bytes_per_second": 3000 * 65536, "requests_per_second": 3000, "cpu_us_per_request": 10.0, "throughput_ratio": 3.0, "cpu_ratio": 0.5,
    }  # fmt: skip


def test_an_engine_that_was_refused_has_a_reason_and_no_numbers():
    result = _bench.summary({"native": engine(reason="this QEMU was built without it"), "threads": engine(run(10, 1, 0.1), observed="threads")})
    assert result["native"] == {"ran": False, "observed": None, "reason": "this QEMU was built without it", "write": None, "read": None}


@pytest.mark.parametrize("threads", [None, engine(run(10, 1, 0))])
def test_no_ratio_without_something_to_compare_with(threads):
    measured = {"native": engine(run(10, 1, 0.1))}
    if threads:
        measured["threads"] = threads
    assert _bench.summary(measured)["native"]["write"]["cpu_ratio"] is None


def test_cpu_of_this_process_is_counted_and_that_of_a_process_that_is_gone_is_not():
    before = _bench.cpu_seconds([os.getpid()])
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    assert 0.08 <= _bench.cpu_seconds([os.getpid(), 2**22 + 1]) - before <= 5


def test_a_process_whose_name_has_brackets_and_blanks(tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text("7 (qemu) S (x) R 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 1 1 1")
    assert _bench.cpu_seconds([7], str(tmp_path)) == 300 / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"binary": "qemu"}, "not absolute"),
        ({"binary": "/nonesuch"}, "/nonesuch: No such file"),
        ({"storage_path": "images"}, "storage path is not absolute"),
        ({"size": 0}, "size is 0"),
        ({"seconds": -1}, "seconds is -1"),
        ({"rounds": 0}, "rounds is 0"),
    ],
)
def test_what_cannot_be_measured_is_said(options, words):
    with pytest.raises(AioError, match=words):
        _bench.bench(**dict({"binary": sys.executable}, **options))


def test_storage_with_too_little_room_is_left_alone(tmp_path):
    status = os.statvfs(tmp_path)
    with pytest.raises(AioError, match=r"are free, too few for a test file of \d+ MiB"):
        _bench.bench(sys.executable, storage_path=str(tmp_path), size=status.f_bavail * status.f_frsize)
    assert not list(tmp_path.iterdir())


def test_what_is_no_qemu_is_named_and_nothing_stays(tmp_path):
    with pytest.raises(AioError) as caught:
        _bench.bench(sys.executable, storage_path=str(tmp_path), size=_bench.MIB)
    assert str(caught.value).startswith("%s: it did not come to the end of the measurement" % sys.executable)
    assert not list(tmp_path.iterdir())

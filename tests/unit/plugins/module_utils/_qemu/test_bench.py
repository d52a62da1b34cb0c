# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is made of measurements, and what is refused before any is made. Real QEMUs are measured in tests/integration_lab/test_qemu_bench.py."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._qemu import bench as _bench


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


def test_cpu_of_a_process_is_counted_with_its_threads_that_ended_and_none_of_a_process_that_is_gone():
    code = "import sys, threading, time\ndef burn():\n    end = time.thread_time() + 0.2\n    while time.thread_time() < end: pass\n"
    code += "thread = threading.Thread(target=burn); thread.start(); thread.join(); print('burnt', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"burnt\n"
        assert 0.2 <= _bench.cpu_seconds([process.pid]) < 5
        process.stdin.close()
    assert _bench.cpu_seconds([process.pid]) == 0


def test_a_moment_of_cpu_is_seen():
    before = _bench.cpu_seconds([os.getpid()])
    sum(range(20000))
    assert 0 < _bench.cpu_seconds([os.getpid()]) - before < 0.5


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

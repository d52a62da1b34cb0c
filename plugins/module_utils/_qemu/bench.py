# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast the engines of a QEMU are on a host's storage, and what CPU they take. PRIVATE to kataops.aio.

The QEMU that Kata runs does it itself, with no guest and no other program: its copy job (``blockdev-backup``) copies between a file on the storage, opened
as Kata opens a disk, and ``null-co``, which gives and takes bytes for nothing. A copy job sends requests of :data:`REQUEST` bytes, up to :data:`IN_FLIGHT`
at a time. The engines take turns in several rounds, so that a busy host troubles all of them alike, and medians are compared.
"""

from __future__ import annotations

import contextlib
import os
import re
import statistics
import time

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._host.child import Child, OutputTooLong
from ansible_collections.kataops.aio.plugins.module_utils._host.files import read_head
from ansible_collections.kataops.aio.plugins.module_utils._host.guard import Guard
from ansible_collections.kataops.aio.plugins.module_utils._host.kernel import free_contexts
from ansible_collections.kataops.aio.plugins.module_utils._host.storage import filesystem_of, parse_mountinfo
from ansible_collections.kataops.aio.plugins.module_utils._qemu import engines as _engines
from ansible_collections.kataops.aio.plugins.module_utils._qemu.engines import ENGINES
from ansible_collections.kataops.aio.plugins.module_utils._qemu.failure import why_ended
from ansible_collections.kataops.aio.plugins.module_utils._qemu.file import look_at
from ansible_collections.kataops.aio.plugins.module_utils._qemu.image import CANNOT_OPEN, Image, storage_folder
from ansible_collections.kataops.aio.plugins.module_utils._qemu.observe import ARGUMENTS
from ansible_collections.kataops.aio.plugins.module_utils._qemu.qmp import QmpError, QmpSession, version_of

MIB = 1024 * 1024
#: The smallest piece that a copy job takes (BACKUP_CLUSTER_SIZE_DEFAULT in QEMU's block/copy-before-write.c).
REQUEST = 64 * 1024
#: QEMU's own default of ``x-perf.max-workers``.
IN_FLIGHT = 64
DIRECTIONS = ("write", "read")
#: threads last, as its worker threads linger and blur the trace of the others.
ORDER = ("io_uring", "native", "threads")
#: AIO contexts that must be free besides the one that measuring native takes: sandboxes that start meanwhile need them.
CONTEXTS_LEFT = 8
#: Seconds that one pass over the file may take; storage that is slower is broken.
PASS_LIMIT = 120
_NODE, _NOWHERE = "kataops-aio-bench", "kataops-aio-nowhere"


def bench(binary, *, engines=ENGINES, storage_path=None, size=256 * MIB, seconds=2.0, rounds=3, timeout=10):
    """Measure the engines of one QEMU.

    :arg binary: absolute path that Kata would run (a wrapper is run as it is).
    :arg engines: some of :data:`._engines.ENGINES`.
    :arg storage_path: the folder that will hold block images; None: :data:`._qemu_image.DEFAULT_STORAGE`.
    :arg size: bytes of the test file, a multiple of 1 MiB. Twice as much has to be free.
    :arg seconds: how long each engine reads, and how long it writes, in each round; at least one pass over the file.
    :arg timeout: seconds that QEMU may take to start.
    :returns: dict as documented in the module ``qemu_bench``. An engine that cannot be measured is a result.
    :raises AioError: for arguments that mean nothing, for storage that takes no such file, and for a QEMU that does not answer.
    """
    if not os.path.isabs(binary):
        raise AioError("the path is not absolute", where=binary, expected="the absolute path of a QEMU", remedy="write the path from / on")
    for name, value in (("size", size), ("seconds", seconds), ("rounds", rounds)):
        if value <= 0:
            raise AioError("%s is %s" % (name, value), where="qemu_bench", expected="more than 0", remedy="correct it or leave it out")
    folder = storage_folder(storage_path)
    seen = look_at(binary)
    if seen["status"] is not None:
        raise AioError("this QEMU cannot be measured", where=seen["reason"], expected="a QEMU that runs on this host")
    _require_room(folder, size)
    with Guard() as guard, Image(folder, size) as image:
        _reserve(image.fd, size, folder)
        measuring = _Bench(binary, seen["kind"] == "script", guard, image, size)
        measured, version = measuring.run([engine for engine in ORDER if engine in engines], seconds, rounds, timeout)
    return {
        "binary": binary,
        "version": version,
        "storage": {"path": folder, "filesystem": _filesystem(folder)},
        "size": size,
        "request_bytes": REQUEST,
        "in_flight": IN_FLIGHT,
        "seconds": seconds,
        "rounds": rounds,
        "engines": summary(measured),
    }


def summary(measured):
    """The medians of all rounds, and how each engine compares with threads.

    :arg measured: ``{engine: {observed, reason, write: [run], read: [run]}}``; a run is ``{requests, seconds, cpu_seconds}``.
    :returns: ``{engine: {ran, observed, reason, write, read}}``, in the order of :data:`._engines.ENGINES`; ``write`` and ``read`` are None where nothing
        was measured, else have ``bytes_per_second``, ``requests_per_second``, ``cpu_us_per_request``, and ``throughput_ratio`` and ``cpu_ratio`` against
        threads (None where threads was not measured, or took no CPU that the kernel counted).
    """
    result = {}
    for engine in ENGINES:
        if engine in measured:
            one = measured[engine]
            medians = {direction: _medians(one[direction]) for direction in DIRECTIONS}
            result[engine] = dict(medians, ran=bool(one["write"]), observed=one["observed"], reason=one["reason"])
    for one in result.values():
        for direction in DIRECTIONS:
            if one[direction] is None:
                continue
            base = (result.get("threads") or {}).get(direction)
            one[direction]["throughput_ratio"] = _ratio(one[direction], base, "requests_per_second")
            one[direction]["cpu_ratio"] = _ratio(one[direction], base, "cpu_us_per_request")
    return result


def _medians(runs):
    if not runs:
        return None
    rate = statistics.median(run["requests"] / run["seconds"] for run in runs)
    cpu = statistics.median(run["cpu_seconds"] / run["requests"] for run in runs)
    return {"bytes_per_second": int(rate * REQUEST), "requests_per_second": int(rate), "cpu_us_per_request": round(cpu * 1e6, 1)}


def _ratio(one, base, key):
    return round(one[key] / base[key], 2) if base and base[key] else None


def cpu_seconds(pids):
    """User and system time of some processes with all their threads, those that ended too. A process that is gone counts nothing.

    Read from each process's CPU clock (clock_getcpuclockid(3); the number is the kernel's MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED)), since /proc/PID/stat
    counts in hundredths of a second, in which native serves thousands of requests.
    """
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += time.clock_gettime((~pid << 3) | 2)
    return total


def _filesystem(folder):
    try:
        return filesystem_of(os.path.realpath(folder), parse_mountinfo(read_head("/proc/self/mountinfo", 16 << 20)))
    except OSError:
        return None


def _require_room(folder, size):
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if free < 2 * size:
        raise AioError(
            "%d MiB are free, too few for a test file of %d MiB" % (free // MIB, size // MIB),
            where=folder,
            expected="twice the size of the test file, so that nothing else on the host runs out of space",
            remedy="free some, or name a smaller size",
        )


def _reserve(fd, size, folder):
    """Take the space now, so that storage that is full says so before QEMU writes."""
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as exc:
        raise AioError("no room for the test file (%s)" % exc.strerror, where=folder, expected="%d MiB" % (size // MIB), remedy="free some") from None


class _Bench:
    """One start of one QEMU."""

    def __init__(self, binary, script, guard, image, size):
        self.binary = binary
        self.script = script
        self.guard = guard
        self.image = image
        self.size = size
        self.child = self.session = None
        self.pids = []
        self.jobs = 0

    def run(self, engines, seconds, rounds, timeout):
        """``({engine: {observed, reason, write, read}}, version)``; the lists have a run for each round."""
        try:
            self.child = Child([self.binary, *ARGUMENTS], self.guard, timeout, (self.image.fd,))
            self.session = QmpSession(self.child)
            version, _package = version_of(self.session.greet())
            self.pids = self.child.group() if self.script else [self.child.pid]
            measured = {engine: self._first(engine) for engine in engines}
            for _round in range(rounds):
                for engine in engines:
                    if measured[engine]["reason"] is None or measured[engine]["observed"]:
                        self._round(engine, measured[engine], seconds)
            self.child.write(b'{"execute": "quit"}\n')
            self.child.leave()
        except QmpError as exc:
            _status, what, _stderr, _stdout = why_ended(exc, self.child, self.session, timeout, self.script)
            raise AioError("it did not come to the end of the measurement: %s" % what, where=self.binary) from None
        except OutputTooLong as exc:
            raise AioError(exc.what, where=self.binary, expected="a QEMU") from None
        except OSError as exc:
            raise AioError("the kernel does not run it: %s" % exc.strerror, where=self.binary) from None
        finally:
            if self.child is not None:
                self.child.end()
        return measured, version

    def _first(self, engine):
        """A pass that does not count: it fills the file, and shows in the kernel which engine QEMU really uses."""
        found = {"observed": None, "reason": None, "write": [], "read": []}
        free = free_contexts() if engine == "native" else None
        if free is not None and free <= CONTEXTS_LEFT:
            found["reason"] = "only %d AIO contexts are free under fs.aio-max-nr; they are left to sandboxes" % free
            return found
        before = _engines.kernel_trace(self.pids)
        self.child.words()
        refused = self._open(engine)
        if refused and re.search(CANNOT_OPEN, refused):
            self.image.give_name()
            refused = self._open(engine)
        if refused:
            meaning = _engines.meaning_of(engine, refused)
            found["reason"] = meaning.reason or refused
            return found
        self._pass(_NOWHERE, _NODE)
        stderr = self.child.words()
        found["observed"] = _engines.engine_used(engine, before, _engines.kernel_trace(self.pids), self.size, stderr)
        if found["observed"] not in (engine, None):
            found["reason"] = "QEMU accepts %s but uses %s in silence: %s" % (
                engine, found["observed"], _engines.fallback_words(stderr, engine) or "it says nothing",
            )  # fmt: skip
        self._close()
        return found

    def _round(self, engine, found, seconds):
        self._open(engine)
        for direction in DIRECTIONS:
            source, target = (_NOWHERE, _NODE) if direction == "write" else (_NODE, _NOWHERE)
            began, used, passes = time.monotonic(), cpu_seconds(self.pids), 0
            while not passes or time.monotonic() - began < seconds:
                self._pass(source, target)
                passes += 1
            found[direction].append(
                {
                    "requests": passes * self.size // REQUEST,
                    "seconds": time.monotonic() - began,
                    "cpu_seconds": cpu_seconds(self.pids) - used,
                }
            )
        self._close()

    def _open(self, engine):
        """Open the file with this engine, and nowhere. Returns QEMU's words where it refuses."""
        file = {"driver": "file", "filename": self.image.path, "aio": engine}
        node = {"driver": "raw", "node-name": _NODE, "cache": {"direct": True, "no-flush": False}, "file": file}
        added = self.session.ask("blockdev-add", node)
        if not added.ok:
            return added.words
        nowhere = self.session.ask("blockdev-add", {"driver": "null-co", "node-name": _NOWHERE, "size": self.size, "read-zeroes": False})
        if not nowhere.ok:
            self.session.ask("blockdev-del", {"node-name": _NODE})
            return nowhere.words
        return None

    def _close(self):
        for node in (_NODE, _NOWHERE):
            self.session.ask("blockdev-del", {"node-name": node})

    def _pass(self, source, target):
        """Copy all of one node to the other.

        :raises AioError: where QEMU refuses the job, or an I/O failed.
        """
        self.child.deadline = time.monotonic() + PASS_LIMIT
        self.jobs += 1
        job = "kataops-aio-%d" % self.jobs
        started = self.session.ask(
            "blockdev-backup",
            {"job-id": job, "device": source, "target": target, "sync": "full", "x-perf": {"max-workers": IN_FLIGHT, "max-chunk": REQUEST}},
        )
        if not started.ok:
            raise AioError("QEMU refuses a copy job: %s" % started.words, where=self.binary, expected="QEMU 6.1 or newer")
        events = iter(started.events)
        while True:
            event = next(events, None) or self.session.event()
            if event.get("event") == "BLOCK_JOB_COMPLETED" and event.get("data", {}).get("device") == job:
                break
        if "error" in event["data"]:
            raise AioError("an I/O of the measurement failed: %s" % event["data"]["error"], where=self.image.folder)

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kata's own hot-plug requests, played on a real QEMU with a machine but no guest, then one I/O. PRIVATE to kataops.aio.

The requests are those of Kata's Go runtime (``src/runtime/pkg/govmm/qemu/qmp.go``, 3.0.0 to 4.1.0) and of runtime-rs
(``crates/hypervisor/src/qemu/qmp.rs``, to 4.1.0); where they differ is told at :func:`blockdev_request` and :func:`device_request`.
"""

from __future__ import annotations

import os
import re

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._host.child import Child, OutputTooLong
from ansible_collections.kataops.aio.plugins.module_utils._host.guard import Guard, GuardLost
from ansible_collections.kataops.aio.plugins.module_utils._host.loop import LoopDevice
from ansible_collections.kataops.aio.plugins.module_utils._qemu import engines as _engines
from ansible_collections.kataops.aio.plugins.module_utils._qemu.engines import ENGINES, evidence
from ansible_collections.kataops.aio.plugins.module_utils._qemu.failure import useful_words, why_ended
from ansible_collections.kataops.aio.plugins.module_utils._qemu.file import look_at
from ansible_collections.kataops.aio.plugins.module_utils._qemu.image import IO_SIZE, Image, storage_folder
from ansible_collections.kataops.aio.plugins.module_utils._qemu.qmp import QmpError, QmpSession

RUNTIMES = ("go", "rs")
# Kata's names of the drivers: Go says virtio-blk where runtime-rs says virtio-blk-pci.
BLOCK_DRIVERS = ("virtio-blk", "virtio-blk-pci", "virtio-scsi")
MACHINE_TYPES = ("q35", "virt")

# Requests as of the newest release that is known here (4.1.0).
NEWEST = (9999,)

_BRIDGE = "pci-bridge-0"
_PATTERN = 0x5A
_FIRMWARE = re.compile(r"^.*(?:could not load PC BIOS|failed to find romfile|could not load (?:firmware|option rom)|Could not find ROM image).*$", re.M)


def blockdev_request(runtime, node, filename, *, is_device, engine, cache_set, cache_direct, release=NEWEST):
    """The arguments of ``blockdev-add`` as the runtime sends them for a writable hot-plugged drive.

    Go: ``cache`` stands on the outer node and only with ``block_device_cache_set``. runtime-rs: ``cache`` stands on the inner node with
    ``block_device_cache_direct``, from 3.29.0 on, and ``block_device_cache_set`` is not looked at; 3.20 always asks for io_uring, older ones for no
    engine.

    :returns: ``(arguments, deviation)``; ``deviation`` is None, or says how they differ from Kata's own. Go with ``cache_set`` sends ``host_device``
        for a regular file too, and before 3.3.0 always, which QEMU refuses (F6); here ``file`` is sent instead, since the file only stands for a
        block device.
    """
    inner = {"driver": "host_device" if is_device else "file", "filename": filename, "aio": engine}
    outer = {"driver": "raw", "node-name": node, "read-only": False}
    deviation = None
    if runtime == "rs":
        inner["read-only"] = False
        if release >= (3, 29):
            inner["cache"] = {"direct": cache_direct}
        if release < (3, 20):
            del inner["aio"]
        elif release < (3, 21):
            inner["aio"] = "io_uring"
    else:
        if cache_set:
            outer["cache"] = {"direct": cache_direct, "no-flush": False}
        if not is_device and (cache_set or release < (3, 3)):
            deviation = "driver file was sent instead of Kata's host_device, because no loop device could be had"
    outer["file"] = inner
    return outer, deviation


def device_request(runtime, driver, node, release=NEWEST):
    """The arguments of ``device_add`` as the runtime sends them after :func:`blockdev_request`.

    QEMU 9.2 and later refuse arguments of the wrong type. Go sent ``share-rw`` as a string until 3.13 (pull request 10719) and ``num-queues`` as one
    until 3.21 (pull request 11888), so a newer QEMU under an older Kata cannot plug in a drive.
    """
    identity = "virtio-" + node if runtime == "go" else node
    shared = "on" if runtime == "go" and release < (3, 14) else True
    if driver == "virtio-scsi":
        return {"id": identity, "driver": "scsi-hd", "drive": node, "bus": "scsi0.0", "scsi-id": 0, "lun": 0, "share-rw": shared}
    request = {"id": identity, "driver": "virtio-blk-pci", "drive": node, "addr": "01", "bus": _BRIDGE, "share-rw": shared}
    if runtime == "go":
        request.update({"num-queues": "1" if release < (3, 22) else 1, "romfile": ""})
    return request


def release_numbers(text):
    """``(3, 7, 0)`` of ``"3.7.0"`` (and of ``"3.7.0-rc1"``); :data:`NEWEST` of None.

    :raises AioError: for a text that is no release.
    """
    if text is None:
        return NEWEST
    match = re.match(r"v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?(?![\d])", text)
    if not match:
        raise AioError("%r is no release of Kata Containers" % text, where="release", expected="a release like 3.7.0", remedy="correct it or leave it out")
    return tuple(int(part or 0) for part in match.groups())


def command_line(binary, machine_type, driver, seccomp_sandbox=None):
    """QEMU's arguments: Kata's machine with its bridge, its SCSI controller where asked, and a network card (for ``efi-virtio.rom``); no guest."""
    argv = [
        binary,
        "-machine",
        machine_type,
        "-accel",
        "kvm",
        "-accel",
        "tcg",
        "-accel",
        "qtest",
        "-m",
        "64M",
        "-nodefaults",
        "-display",
        "none",
        "-S",
    ]
    if machine_type == "virt":
        argv += ["-cpu", "max"]
    if seccomp_sandbox:
        argv += ["-sandbox", seccomp_sandbox]
    argv += ["-device", "pci-bridge,bus=pcie.0,id=%s,chassis_nr=1,shpc=off,addr=2,io-reserve=4k,mem-reserve=1m,pref64-reserve=1m" % _BRIDGE]
    if driver == "virtio-scsi":
        argv += ["-device", "virtio-scsi-pci,id=scsi0,disable-modern=false"]
    argv += ["-device", "virtio-net-pci,disable-modern=false", "-qmp", "stdio"]
    return argv


def prove(
    binary,
    *,
    runtime="go",
    engine="native",
    cache_set=True,
    cache_direct=True,
    block_device_driver="virtio-blk",
    machine_type="q35",
    storage_path=None,
    timeout=30,
    seccomp_sandbox=None,
    release=None,
):
    """Play the hot-plug and one I/O.

    :arg binary: absolute path that Kata would run (a wrapper is run as it is).
    :arg timeout: seconds for all of it.
    :arg release: Kata's release, like ``3.7.0``, whose requests are sent; None: the newest's.
    :returns: dict with ``ok``, ``engine_asked``, ``engine_observed``, ``accelerator``, ``backend``, ``cause``, ``firmware_ok``, ``transcript``,
        ``reason`` and ``evidence``; ``reason`` is None only where ``ok`` and nothing deviated.
    :raises AioError: for arguments that mean nothing. A QEMU that fails is a result.
    """
    _check("runtime", runtime, RUNTIMES)
    _check("engine", engine, ENGINES)
    _check("block_device_driver", block_device_driver, BLOCK_DRIVERS)
    _check("machine_type", machine_type, MACHINE_TYPES)
    if not os.path.isabs(binary):
        raise AioError("the path is not absolute", where=binary, expected="the absolute path of a QEMU", remedy="write the path from / on")
    folder = storage_folder(storage_path)
    numbers = release_numbers(release)
    result = {
        "ok": False,
        "engine_asked": engine,
        "engine_observed": None,
        "accelerator": None,
        "backend": None,
        "cause": None,
        "firmware_ok": None,
        "transcript": [],
        "reason": None,
        "evidence": [],
    }
    seen = look_at(binary)
    if seen["status"] is not None:
        return dict(result, cause=seen["status"], reason=seen["reason"])
    proof = _Proof(result, binary, seen["kind"] == "script", timeout)
    try:
        image = Image(folder)
    except AioError as exc:
        return dict(result, cause="storage", reason=str(exc))
    with image, Guard() as guard:
        proof.run(
            guard,
            image,
            command_line(binary, machine_type, block_device_driver, seccomp_sandbox),
            block_device_driver,
            {"runtime": runtime, "engine": engine, "cache_set": cache_set, "cache_direct": cache_direct, "release": numbers},
        )
    return result


def _check(option, value, allowed):
    if value not in allowed:
        raise AioError("%r is no %s" % (value, option), where=option, expected="one of %s" % ", ".join(allowed), remedy="correct the value")


class _Proof:
    """One run. What is learnt stays in ``result`` whatever happens."""

    def __init__(self, result, binary, script, timeout):
        self.result = result
        self.binary = binary
        self.script = script
        self.timeout = timeout
        self.deviations = []

    def run(self, guard, image, argv, driver, asked):
        loop = child = session = None
        try:
            try:
                loop = LoopDevice(image.fd)
                self.result["backend"] = "loop_device"
            except AioError as exc:
                self.result["backend"] = "regular_file"
                self.result["evidence"].append(evidence("a loop device", str(exc), "syscall"))
            child = Child(argv, guard, self.timeout, (image.fd,))
            session = QmpSession(child, self.result["transcript"])
            session.greet()
            self._play(session, child, image, loop, driver, asked)
            child.write(b'{"execute": "quit"}\n')
            child.wait()
        except QmpError as exc:
            status, what, stderr, stdout = why_ended(exc, child, session, self.timeout, self.script)
            self._fail(status, what)
            for name, words in (("stderr", stderr), ("stdout", stdout)):
                if words:
                    self.result["evidence"].append(evidence("%s of %s" % (name, " ".join(argv)), words, "command"))
            self._firmware(child.all_words())
        except OutputTooLong as exc:
            self._fail("unintelligible", "%s; is it QEMU?" % exc.what)
        except GuardLost as exc:
            self._fail("killed", exc.what)
        except OSError as exc:
            self._fail("not_executable", "the kernel does not run it: %s" % exc.strerror)
        finally:
            if child is not None:
                child.end()
            # After QEMU: the last one that holds the device releases it.
            if loop is not None:
                loop.close()
        if self.deviations:
            self.result["reason"] = "; ".join(([self.result["reason"]] if self.result["reason"] else []) + self.deviations)

    def _fail(self, cause, what):
        self.result["cause"] = cause
        self.result["reason"] = "%s: %s" % (self.binary, what)

    def _play(self, session, child, image, loop, driver, asked):  # noqa: PLR0917
        runtime, engine = asked["runtime"], asked["engine"]
        node = "drive-kataops-aio-proof"
        pids = child.group() if self.script else [child.pid]
        self._accelerator(session)
        self._firmware(child.all_words())
        if self.result["firmware_ok"] is False:
            return
        before = _engines.kernel_trace(pids)
        child.words()
        request, deviation = blockdev_request(node=node, filename=loop.path if loop else image.path, is_device=loop is not None, **asked)
        if deviation:
            self.deviations.append(deviation)
        sent = request["file"].get("aio")
        if sent != engine:
            self._fail(
                "setting_ignored",
                "this release of runtime-rs %s, whatever block_device_aio says"
                % ("asks for %s" % sent if sent else "asks for no engine, so QEMU uses threads"),
            )
            return
        added = session.ask("blockdev-add", request)
        if not added.ok:
            meaning = _engines.meaning_of(engine, added.words)
            self._fail(meaning.cause, "QEMU refuses Kata's blockdev-add: %s" % added.words)
            return
        plugged = session.ask("device_add", device_request(runtime, driver, node, asked["release"]))
        if not plugged.ok:
            self._fail("device", "QEMU refuses Kata's device_add: %s" % plugged.words)
            return
        said = []
        for command in ("write -P %d 0 64k" % _PATTERN, "flush", "read -P %d 0 64k" % _PATTERN):
            line = 'qemu-io %s "%s"' % (node, command)
            answer = session.monitor(line)
            words = " ".join((answer.noise + " " + str(answer.value if answer.ok else answer.words)).split())
            said.append(words)
            self.result["evidence"].append(evidence(line, words or "no words", "qmp"))
            if command.startswith("write"):
                after = _engines.kernel_trace(pids)
                stderr = child.words()
        self.result["evidence"].append(
            evidence("/proc/PID/{maps,fd,task,io} before the drive and after its first write", _engines.trace_words(before, after), "proc")
        )
        if not image.contains(_PATTERN):
            self._fail("io_error", "the write did not reach the disk: %s" % (said[0] or "QEMU said nothing"))
            return
        if any("failed" in words for words in said):
            self._fail("io_error", "an I/O failed: %s" % "; ".join(words for words in said if "failed" in words))
            return
        self._judge(engine, before, after, stderr)

    def _judge(self, engine, before, after, stderr):
        used = _engines.engine_used(engine, before, after, IO_SIZE, stderr)
        self.result["engine_observed"] = used
        admitted = _engines.fallback_words(stderr, engine)
        if admitted:
            self.result["evidence"].append(evidence("stderr of QEMU during the I/O", admitted, "command"))
        if used is None:
            self._fail("unknown", "the I/O worked, but QEMU's process could not be read in /proc, so its engine is unknown")
        elif used != engine:
            self._fail("falls_back", "QEMU accepts %s but uses %s in silence%s" % (engine, used, ": " + admitted if admitted else ""))
        else:
            self.result["ok"] = True

    def _accelerator(self, session):
        """kvm says so itself; tcg has a JIT to tell of; else it is qtest."""
        kvm = session.ask("query-kvm")
        if kvm.ok and isinstance(kvm.value, dict) and kvm.value.get("enabled") is True:
            self.result["accelerator"] = "kvm"
            return
        jit = session.monitor("info jit")
        words = str(jit.value) + jit.noise
        self.result["accelerator"] = "tcg" if jit.ok and "only available with accel=tcg" not in words and "unknown command" not in words else "qtest"

    def _firmware(self, stderr):
        words = _FIRMWARE.findall(useful_words(stderr))
        if words:
            self.result["firmware_ok"] = False
            self._fail("firmware", "firmware is missing: %s" % "; ".join(words)[:500])
            self.result["evidence"].append(evidence("stderr of QEMU", "; ".join(words), "command"))
        elif self.result["accelerator"] is not None:
            self.result["firmware_ok"] = True

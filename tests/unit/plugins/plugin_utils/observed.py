# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Observations for the tests of the controller's pure parts, in the shapes of docs/architecture.md.

A healthy host by default; each test changes what it is about. QEMU's words are those measured on real binaries (7.2 and 10.0).
"""

from __future__ import annotations

NOT_COMPILED = "aio=native was specified, but is not supported in this build."
NEEDS_DIRECT = "aio=native was specified, but it requires cache.direct=on, which was not specified."
NO_IO_URING = "Parameter 'aio' does not accept value 'io_uring'"
RING_REFUSED = "Unable to use io_uring: failed to init linux io_uring ring"
AIO_EXHAUSTED = "Unable to use native AIO: failed to create linux AIO context: Resource temporarily unavailable"
FELL_BACK = "Unable to use Linux AIO, falling back to thread pool: failed to create linux AIO context: Resource temporarily unavailable"

QEMU = "/opt/kata/bin/qemu-system-x86_64"
CONFIG = "/opt/kata/share/defaults/kata-containers/configuration-qemu.toml"


def engine(outcome="works", answered='{"return": {}}', **changes):
    compiled = None if outcome == "unknown" else outcome != "not_compiled"
    usable = {"works": True, "unknown": None}.get(outcome, False)
    base = {
        "compiled": compiled,
        "compiled_by": None if compiled is None else "qmp",
        "usable": usable,
        "outcome": outcome,
        "cause": {"not_compiled": "not_in_build", "unknown": "other"}.get(outcome),
        "needs_direct": None,
        "observed": None,
        "reason": None if outcome == "works" else answered,
        "evidence": [{"asked": "blockdev-add", "answered": answered, "by": "qmp"}],
    }
    return dict(base, **changes)


def qemu(
    path=QEMU,
    native="works",
    io_uring="works",
    native_cause="aio_exhausted",
    io_uring_cause="io_uring_refused",
    io_uring_observed=None,
    threads="works",
    **changes,
):
    """``native_cause`` and ``io_uring_cause`` are of ``refused`` and ``falls_back``."""
    words = {"not_compiled": NOT_COMPILED, "refused": AIO_EXHAUSTED, "falls_back": FELL_BACK}
    uring_words = {"not_compiled": NO_IO_URING, "refused": RING_REFUSED}
    base = {
        "path": path,
        "names": [path],
        "real_path": path,
        "status": "answered",
        "reason": None,
        "kind": "elf",
        "wrapper": None,
        "origin": "kata_static" if path.startswith("/opt/kata/") else "kataops" if path.startswith("/opt/kataops/") else "distribution",
        "package": None,
        "version": "8.2.4",
        "engines": {
            "threads": engine(threads, {"refused": "Could not open '/x': Permission denied"}.get(threads, '{"return": {}}')),
            "native": engine(native, words.get(native, "")),
            "io_uring": engine(io_uring, uring_words.get(io_uring, ""), observed=io_uring_observed),
        },
        "firmware": {"search_paths": ["/opt/kata/share/kata-qemu/qemu"], "missing": [], "found": {}, "reason": None},
        "devices_missing": [],
        "objects_missing": [],
        "machine_types": ["q35"],
        "evidence": [],
    }
    for name, cause in (("native", native_cause), ("io_uring", io_uring_cause)):
        if base["engines"][name]["outcome"] in ("refused", "falls_back"):
            base["engines"][name]["cause"] = cause
    return dict(base, **changes)


def runtime(kind="go", release="3.7.0", handlers=("kata-qemu",), config=CONFIG, values=None, **changes):
    defaults = {
        "path": QEMU,
        "block_device_aio": "native",
        "block_device_cache_set": True,
        "block_device_cache_direct": True,
        "enable_iothreads": False,
        "disable_block_device_use": False,
        "enable_guest_swap": False,
        "rootless": False,
    }
    base = {
        "id": config,
        "handlers": list(handlers),
        "cri": ["containerd"],
        "runtime": kind,
        "runtime_reason": None,
        "release": release,
        "release_source": "/opt/kata/VERSION",
        "shim": None,
        "config": {"asked": config, "real_path": config, "how": "config_path", "sha256": "0" * 64, "mode": "0644", "uid": 0, "gid": 0},
        "config_dir": {"path": config.rsplit("/", 1)[0] + "/config.d", "exists": False, "drop_ins": [], "shared_with": []},
        "hypervisor": "qemu",
        "values": dict(defaults, **(values or {})),
        "sources": {"block_device_aio": config},
        "problems": [],
        "drop_in": {"safe": True, "reason": None},
    }
    return dict(base, **changes)


def kernel(max_nr=1048576, nr=0, io_uring_ok=True, user_ok=True, disabled=0, errno="EPERM", io_setup_ok=True, release="6.1.0-18-amd64", boot=1048576):
    """``boot``: what a sysctl file sets; None where none does."""

    def setup(ok):
        return {"ok": ok, "errno": None if ok else errno, "evidence": [{"asked": "io_uring_setup(2)", "answered": "ok" if ok else errno, "by": "syscall"}]}

    free = max_nr - nr
    return {
        "release": release,
        "kvm": {"usable": True, "reason": None, "evidence": [{"asked": "open /dev/kvm", "answered": "success", "by": "syscall"}]},
        "aio": {
            "max_nr": max_nr,
            "nr": nr,
            "free": free,
            "contexts_free": free // 1024,
            "io_setup": {"ok": io_setup_ok, "errno": None if io_setup_ok else "EAGAIN", "evidence": []},
            "boot": {"value": boot, "files": [] if boot is None else [{"path": "/etc/sysctl.d/99-aio.conf", "value": boot}], "reason": None},
            "reason": None,
        },
        "io_uring": {"disabled": disabled, "group": None, "setup_root": setup(io_uring_ok), "setup_user": setup(user_ok and io_uring_ok), "reason": None},
    }


def storage(o_direct=True):
    reason = None if o_direct else "Invalid argument"
    return [{"path": "/var/lib/containerd", "probed": "/var/lib", "filesystem": "ext4", "o_direct": o_direct, "reason": reason, "evidence": []}]


def sandbox(pid=100, binary=QEMU, observed=("native",), binary_state="current", **changes):
    base = {
        "pid": pid,
        "sandbox_id": "s%d" % pid,
        "binary": binary,
        "binary_state": binary_state,
        "asked": [],
        "observed": None if observed is None else list(observed),
        "aio_contexts": 0,
        "io_uring_rings": 0,
        "event_loop_rings": 0,
        "block_devices_open": [{"path": "/dev/dm-3", "kind": "block", "plugged": "hot", "direct": True}],
    }
    return dict(base, **changes)


def observations(qemus=None, **changes):
    base = {
        "host": {"kernel_release": "6.1.0-18-amd64", "architecture": "x86_64", "distribution": "Debian", "python": "3.11.2"},
        "kata": {},
        "qemus": [qemu()] if qemus is None else qemus,
        "kernel": kernel(),
        "libaio": {},
        "storage": storage(),
        "sandboxes": {"total": 0, "by_engine": {}, "processes": [], "reason": None},
    }
    processes = changes.pop("processes", None)
    if processes is not None:
        base["sandboxes"] = {"total": len(processes), "by_engine": {}, "processes": processes, "reason": None}
    return dict(base, **changes)


def policy(**changes):
    base = {
        "engine": "auto",
        "headroom": 128,
        "aio_max_nr": 1048576,
        "strategies": ["configuration", "reuse", "replace", "rebuild"],
        "allow_fallback": False,
        "artifact": None,
        "artifact_sha256": None,
        "package": False,
        "method": "auto",
        "exclude": [],
    }
    return dict(base, **changes)

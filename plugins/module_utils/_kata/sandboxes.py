# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The QEMU processes of running Kata sandboxes, and how many really use which block engine. PRIVATE to kataops.aio.

What is told of one of them, and how: ``_sandbox_process.py``.
"""

from __future__ import annotations

import os

from ansible_collections.kataops.aio.plugins.module_utils._host.proc import read_file


def observe_sandboxes(proc="/proc"):
    """The contract ``sandboxes`` of docs/architecture.md. A process that ends while it is looked at is left out.

    :arg proc: where proc(5) is mounted.
    """
    reason = None
    if os.geteuid() != 0:
        reason = "Not root: what other users' processes have open is hidden, and with hidepid the processes too. Use become."
    try:
        pids = sorted(int(name) for name in os.listdir(proc) if name.isdigit())
    except OSError as error:
        return dict(_summary([]), total=None, by_engine=None, aio_contexts=None, reason="%s: %s." % (proc, error.strerror))
    boot_time = _boot_time(proc)
    # Reading a QEMU's maps is most of the cost; where the machine has no Linux AIO context at all there is none to find.
    any_context = (read_file(proc + "/sys/fs/aio-nr") or b"").strip() != b"0"
    processes = []
    for pid in pids:
        raw = read_file("%s/%d/cmdline" % (proc, pid))
        if not raw or b"sandbox-" not in raw:
            continue
        # Only now, as hosts without a sandbox need not compile it
        from ansible_collections.kataops.aio.plugins.module_utils._kata import sandbox_process as _sandbox_process

        asked = _sandbox_process.read_arguments(_sandbox_process.parse_cmdline(raw))
        if asked is None:
            continue
        process = _sandbox_process.observe_process("%s/%d" % (proc, pid), pid, asked, boot_time, any_context)
        if process is not None:
            processes.append(process)
    return dict(_summary(processes), reason=reason)


def _summary(processes):
    by_engine = {"native": 0, "threads": 0, "io_uring": 0, "none_open": 0, "unknown": 0}
    for process in processes:
        if process["observed"] is None:
            by_engine["unknown"] += 1
        elif not process["observed"]:
            by_engine["none_open"] += 1
        else:
            for engine in process["observed"]:
                by_engine[engine] += 1
    contexts = [process["aio_contexts"] for process in processes if process["aio_contexts"] is not None]
    return {"total": len(processes), "by_engine": by_engine, "aio_contexts": sum(contexts), "processes": processes}


def _boot_time(proc):
    """The ``btime`` of /proc/stat, seconds since 1970."""
    for line in (read_file(proc + "/stat") or b"").split(b"\n"):
        fields = line.split()
        if len(fields) == 2 and fields[0] == b"btime" and fields[1].isdigit() and len(fields[1]) < 16:
            return int(fields[1])
    return None

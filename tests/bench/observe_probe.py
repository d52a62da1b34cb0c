# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Time and CPU of one full observation of a QEMU against the same QEMU merely started without a machine and quit over QMP, in one run.

    python tests/bench/observe_probe.py [--runs N] [--storage FOLDER] [--most RATIO] QEMU...

The two take turns, so that a busy machine troubles both alike; the medians are compared. Prints one line of JSON for each QEMU. With ``--most`` the
exit status is 1 where a ratio of wall times is above it (the goal is 1.3 on an idle machine).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COLLECTION = Path(__file__).resolve().parents[2]


def bare(binary):
    """Start the QEMU, greet it, quit it, reap it: nothing else."""
    process = subprocess.Popen(
        [binary, "-machine", "none", "-nodefaults", "-display", "none", "-S", "-qmp", "stdio"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    )
    if b"QMP" not in process.stdout.readline():
        raise SystemExit("%s: no QMP greeting" % binary)
    process.stdin.write(b'{"execute": "qmp_capabilities"}\n')
    process.stdout.readline()
    process.stdin.write(b'{"execute": "quit"}\n')
    process.stdout.read()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def measured(function, *arguments):
    """Seconds of wall time, and of CPU of this process and of its children."""

    def cpu():
        return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))

    started, used = time.monotonic(), cpu()
    function(*arguments)
    return time.monotonic() - started, cpu() - used


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("qemu", nargs="+", help="path of a QEMU")
    parser.add_argument("--runs", type=int, default=30, help="how often (default: %(default)s)")
    parser.add_argument("--storage", default="/var/lib", help="folder of the test image (default: %(default)s)")
    parser.add_argument("--most", type=float, help="highest good ratio of wall times")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as tree:
        os.makedirs(os.path.join(tree, "ansible_collections", "kataops"))
        os.symlink(COLLECTION, os.path.join(tree, "ansible_collections", "kataops", "aio"))
        sys.path.insert(0, tree)
        from ansible_collections.kataops.aio.plugins.module_utils._qemu.observe import observe_qemus

        def probe(binary):
            [qemu] = observe_qemus([binary], options.storage)
            if qemu["status"] != "answered":
                raise SystemExit(qemu["reason"])

        good = True
        for binary in options.qemu:
            times = {probe: [], bare: []}
            for function in (bare, probe):  # warm the caches
                function(binary)
            for _run in range(options.runs):
                for function, taken in times.items():
                    taken.append(measured(function, binary))
            (wall, cpu), (bare_wall, bare_cpu) = ([statistics.median(run[part] for run in times[function]) for part in (0, 1)] for function in (probe, bare))
            ratio = wall / bare_wall
            good = good and (options.most is None or ratio <= options.most)
            print(
                json.dumps(
                    {
                        "qemu": binary,
                        "runs": options.runs,
                        "probe_ms": round(wall * 1000, 1),
                        "bare_ms": round(bare_wall * 1000, 1),
                        "wall_ratio": round(ratio, 2),
                        "probe_cpu_ms": round(cpu * 1000, 1),
                        "bare_cpu_ms": round(bare_cpu * 1000, 1),
                        "cpu_ratio": round(cpu / bare_cpu, 2),
                    }
                )
            )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Times of the role qemu_build, measured one after another on one disposable builder: cold, with a warm compiler cache, and with nothing to do.

    python tests/bench/build.py [--minimal] [--most-warm RATIO] [--most-nothing RATIO]

The builder has the build dependencies already; where it has not, a build that is not counted brings them. Each time is that of the whole role, from the
start of ansible-playbook to its end. Prints one line of
JSON: seconds, ratios to the cold run, the artifact's size in bytes, and whether cold and warm gave the same bytes. The exit status is 1 where they did
not, or a ratio is above what it may be at most (on a machine that does nothing else).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
LAB = CHECKOUT / "tests" / "lab"
HOST = "bench-builder"


def role(folder, variables):
    """Runs the role; returns (seconds, its fact)."""
    answer = folder / "answer.json"
    answer.unlink(missing_ok=True)
    command = [
        CHECKOUT / ".cache" / "venv-run" / "bin" / "ansible-playbook", "-i", CHECKOUT / ".cache" / "lab" / "inventory.yml", "--limit", HOST,
        "-e", json.dumps({"lab_answer": str(answer), **variables}), LAB / "build_qemu.yml",
    ]  # fmt: skip
    environment = {**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    started = time.monotonic()
    subprocess.run([str(part) for part in command], check=True, stdin=subprocess.DEVNULL, stdout=2, env=environment, cwd=CHECKOUT)
    return time.monotonic() - started, json.loads(answer.read_text())


def measure(folder, minimal):
    """The result as plain data."""
    wish = {"qemu_build_minimal": minimal}
    subprocess.run([LAB / "env", "--run"], check=True, stdout=2)
    if subprocess.run([LAB / "lab", "ssh", HOST, "command -v ninja ccache"], stdin=subprocess.DEVNULL, stdout=2, check=False).returncode != 0:
        role(folder, {"qemu_build_minimal": True, **{"qemu_build_%s_dir" % name: "/srv/bench/first" for name in ("work", "cache")},
                      "qemu_build_artifacts_dir": str(folder / "first")})  # fmt: skip
    seconds, made = {}, {}
    for name, work, kept in (("cold", "one", "a"), ("warm", "two", "b"), ("nothing", "two", "b")):
        variables = {
            **wish,
            "qemu_build_work_dir": "/srv/bench/" + work,
            "qemu_build_cache_dir": "/srv/bench/cache",
            "qemu_build_artifacts_dir": str(folder / kept),
        }
        seconds[name], made[name] = role(folder, variables)
    return {
        "id": made["cold"]["id"],
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "ratio_warm": round(seconds["warm"] / seconds["cold"], 3),
        "ratio_nothing": round(seconds["nothing"] / seconds["cold"], 3),
        "artifact_bytes": made["cold"]["artifact"]["size"],
        "same_bytes": made["cold"]["artifact"]["sha256"] == made["warm"]["artifact"]["sha256"],
        "built": [name for name in seconds if made[name]["built"]],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minimal", action="store_true", help="the minimal feature set")
    parser.add_argument("--most-warm", type=float, help="largest allowed ratio of the warm build to the cold one")
    parser.add_argument("--most-nothing", type=float, help="largest allowed ratio of a run with nothing to do to the cold build")
    asked = parser.parse_args()
    subprocess.run([LAB / "lab", "up", "--fresh", "--builder", HOST], check=True, stdout=2)
    try:
        with tempfile.TemporaryDirectory(prefix="kataops-bench-") as folder:
            result = measure(Path(folder), asked.minimal)
    finally:
        subprocess.run([LAB / "lab", "down", HOST], check=True, stdout=2)
    print(json.dumps(result))
    wrong = not result["same_bytes"] or result["built"] != ["cold", "warm"]
    for name in ("warm", "nothing"):
        most = getattr(asked, "most_" + name)
        wrong = wrong or (most is not None and result["ratio_" + name] > most)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())

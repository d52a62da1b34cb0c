# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wall time and CPU of ansible.builtin.ping and of kata_aio_facts over a fleet reached by SSH, side by side in one run.

    python tests/bench/observe_fleet.py [--hosts 50] [--runs 3] [--forks 10]

The fleet is one disposable host with the planted fault under as many names, each with an SSH connection of its own: what is measured is Ansible, SSH and
the module, and all of it runs on this machine's cores, the hosts' part too: the wall time is the worst case, as real hosts do their part side by side.
So the controller's own CPU (Ansible and its ssh clients) is told beside it. The two take turns and the medians are compared. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
LAB = CHECKOUT / "tests" / "lab" / "lab"
HOST = "bench"


def fleet(count, folder):
    """An inventory of ``count`` names for the one host."""
    base = json.loads(subprocess.run([LAB, "inventory"], capture_output=True, text=True, check=True).stdout)["all"]["hosts"][HOST]
    hosts = {}
    for number in range(1, count + 1):
        name = f"b{number:04d}"
        hosts[name] = dict(base, ansible_control_path=f"{folder}/{name}")
    path = Path(folder) / "inventory.json"
    path.write_text(json.dumps({"all": {"hosts": hosts}}))
    return path


def run(inventory, module, forks):
    """Seconds of one ad-hoc run over the whole fleet, and seconds of the controller's CPU."""
    environment = dict(os.environ, ANSIBLE_CONFIG=str(CHECKOUT / "ansible.cfg"), ANSIBLE_FORKS=str(forks), CI="true")
    started = time.monotonic()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(
            [CHECKOUT / ".venv" / "bin" / "ansible", "all", "-i", inventory, "-m", module, "-o"],
            cwd=CHECKOUT,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        _pid, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            out.seek(0)
            raise SystemExit("%s failed: %s" % (module, out.read().decode(errors="replace")[-1000:]))
    return wall, usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=50)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--forks", type=int, default=10)
    options = parser.parse_args()
    subprocess.run([LAB.parent / "env"], check=True, stdout=sys.stderr)
    subprocess.run([LAB, "up", HOST, "--plant", "kata-3.7.0-native"], check=True, stdout=sys.stderr)
    try:
        with tempfile.TemporaryDirectory(prefix="kataops-bench-") as folder:
            inventory = fleet(options.hosts, folder)
            modules = ("ansible.builtin.ping", "kataops.aio.kata_aio_facts")
            times = {module: [] for module in modules}
            for module in modules:  # connections and caches
                run(inventory, module, options.forks)
            for _run in range(options.runs):
                for module in modules:
                    times[module].append(run(inventory, module, options.forks))
            (ping, ping_cpu), (facts, facts_cpu) = ([statistics.median(run[part] for run in times[module]) for part in (0, 1)] for module in modules)
            print(
                json.dumps(
                    {
                        "hosts": options.hosts,
                        "forks": options.forks,
                        "ping_s": round(ping, 1),
                        "facts_s": round(facts, 1),
                        "ratio": round(facts / ping, 2),
                        "ping_controller_cpu_ms_per_host": round(1000 * ping_cpu / options.hosts, 1),
                        "facts_controller_cpu_ms_per_host": round(1000 * facts_cpu / options.hosts, 1),
                        "controller_cpu_ratio": round(facts_cpu / ping_cpu, 2),
                    }
                )
            )
    finally:
        subprocess.run([LAB, "down", HOST], check=False, stdout=sys.stderr)


if __name__ == "__main__":
    main()

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wall time and CPU of ansible.builtin.ping and of kata_aio_facts over a fleet reached by SSH, side by side in one run.

    python tests/bench/observe_fleet.py [--hosts 50] [--runs 3] [--forks 10]

The fleet is one disposable host with the planted fault under as many names, each with an SSH connection of its own. It is measured in two ways, as
all of it runs on this machine:

* ``this_machine_plays_the_hosts``: every host really does its part, on this machine's cores: the worst case.
* ``hosts_have_their_own_cores``: a host takes in the same bytes by SSH, waits as long as its part takes when it is done alone (measured before, in the
  same run), and gives the answer that it gave then. So this machine's cores do the controller's part only, as with real hosts.

The modules take turns and the medians are compared. CPU is that of Ansible and its ssh clients. Prints a line of JSON for each way.
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

import replayed

CHECKOUT = Path(__file__).resolve().parents[2]
LAB = CHECKOUT / "tests" / "lab" / "lab"
HOST = "bench"


def machine():
    """What Ansible has to know of the one host."""
    return json.loads(subprocess.run([LAB, "inventory"], capture_output=True, text=True, check=True).stdout)["all"]["hosts"][HOST]


def fleet(path, count, **more):
    """An inventory of ``count`` names for the one host."""
    base = dict(machine(), **more)
    hosts = {f"b{number:04d}": dict(base, ansible_control_path=f"{path.parent}/b{number:04d}") for number in range(1, count + 1)}
    path.write_text(json.dumps({"all": {"hosts": hosts}}))
    return path


def run(inventory, module, forks, **settings):
    """Seconds of one ad-hoc run over the whole fleet, and seconds of the controller's CPU."""
    environment = dict(os.environ, ANSIBLE_CONFIG=str(CHECKOUT / "ansible.cfg"), ANSIBLE_FORKS=str(forks), CI="true", **settings)
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


def compare(inventory, options):
    """The modules in turn; the medians, and facts against ping."""
    times = {module: [] for module in replayed.MODULES}
    for turn in range(options.runs + 1):
        for module in replayed.MODULES:
            taken = run(inventory, module, options.forks)
            if turn:  # the first opens connections, and fills caches
                times[module].append(taken)
    (ping, ping_cpu), (facts, facts_cpu) = ([statistics.median(one[part] for one in times[module]) for part in (0, 1)] for module in replayed.MODULES)
    return {
        "hosts": options.hosts,
        "forks": options.forks,
        "ping_s": round(ping, 1),
        "facts_s": round(facts, 1),
        "ratio": round(facts / ping, 2),
        "ping_cpu_ms_per_host": round(1000 * ping_cpu / options.hosts, 1),
        "facts_cpu_ms_per_host": round(1000 * facts_cpu / options.hosts, 1),
        "cpu_ratio": round(facts_cpu / ping_cpu, 2),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=50)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--forks", type=int, default=10)
    options = parser.parse_args()
    subprocess.run([LAB.parent / "env"], check=True, stdout=sys.stderr)
    subprocess.run([LAB, "up", HOST, "--plant", "kata-3.7.0-native"], check=True, stdout=sys.stderr)
    try:
        with tempfile.TemporaryDirectory(prefix="kataops-bench-") as made:
            folder = Path(made)
            real = fleet(folder / "real.json", options.hosts)
            print(json.dumps({"way": "this_machine_plays_the_hosts", **compare(real, options)}), flush=True)
            one = fleet(folder / "one.json", 1)
            told = replayed.record(HOST, lambda module, **settings: run(one, module, 1, **settings))
            replayed.install(HOST, told)
            line = {"way": "hosts_have_their_own_cores", **{name + "_alone_ms": round(1000 * alone["seconds"]) for name, alone in told.items()}}
            own = fleet(folder / "own.json", options.hosts, ansible_python_interpreter=replayed.INTERPRETER)
            print(json.dumps({**line, **compare(own, options)}), flush=True)
    finally:
        subprocess.run([LAB, "down", HOST], check=False, stdout=sys.stderr)


if __name__ == "__main__":
    main()

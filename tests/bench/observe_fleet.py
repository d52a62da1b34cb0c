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

CHECKOUT = Path(__file__).resolve().parents[2]
LAB = CHECKOUT / "tests" / "lab" / "lab"
HOST = "bench"
MODULES = ("ansible.builtin.ping", "kataops.aio.kata_aio_facts")
# Runs a module that Ansible left on the host, several times; the median in seconds, and the answer.
ALONE = """
import glob, json, statistics, subprocess, sys, time
[module] = glob.glob("/root/.ansible/tmp/*/AnsiballZ_*.py")
taken = []
for _turn in range(7):
    started = time.monotonic()
    answer = subprocess.run([sys.executable, module], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True).stdout
    taken.append(time.monotonic() - started)
print(json.dumps({"seconds": statistics.median(taken), "answer": answer.decode()}))
"""


def machine():
    """What Ansible has to know of the one host."""
    return json.loads(subprocess.run([LAB, "inventory"], capture_output=True, text=True, check=True).stdout)["all"]["hosts"][HOST]


def fleet(path, count, **more):
    """An inventory of ``count`` names for the one host."""
    base = dict(machine(), **more)
    hosts = {f"b{number:04d}": dict(base, ansible_control_path=f"{path.parent}/b{number:04d}") for number in range(1, count + 1)}
    path.write_text(json.dumps({"all": {"hosts": hosts}}))
    return path


def on_host(command, **more):
    return subprocess.run([LAB, "ssh", HOST, command], check=True, capture_output=True, text=True, **more).stdout


def replayed(inventory, module):
    """Records what the host answers, and in which time; returns the interpreter on the host that does the same without its CPU, and that time."""
    name = module.rpartition(".")[2]
    on_host("rm -rf ~/.ansible/tmp")
    run(inventory, module, 1, ANSIBLE_KEEP_REMOTE_FILES="1", ANSIBLE_PIPELINING="0")
    told = json.loads(on_host("python3 -", input=ALONE))
    on_host(f"rm -rf ~/.ansible/tmp; cat >/root/{name}.json", input=told["answer"])
    interpreter = f"/usr/local/bin/replay-{name}"
    script = f"#!/bin/sh\ncat >/dev/null\nsleep {told['seconds']:.3f}\nexec cat /root/{name}.json\n"
    on_host(f"cat >{interpreter}; chmod 755 {interpreter}", input=script)
    return interpreter, told["seconds"]


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


def compare(inventories, options):
    """The modules in turn over their inventories; the medians, and facts against ping."""
    times = {module: [] for module in MODULES}
    for turn in range(options.runs + 1):
        for module in MODULES:
            taken = run(inventories[module], module, options.forks)
            if turn:  # the first opens connections, and fills caches
                times[module].append(taken)
    (ping, ping_cpu), (facts, facts_cpu) = ([statistics.median(one[part] for one in times[module]) for part in (0, 1)] for module in MODULES)
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
            inventories = dict.fromkeys(MODULES, fleet(folder / "real.json", options.hosts))
            print(json.dumps({"way": "this_machine_plays_the_hosts", **compare(inventories, options)}), flush=True)
            line = {"way": "hosts_have_their_own_cores"}
            for module in MODULES:
                interpreter, alone = replayed(fleet(folder / "one.json", 1), module)
                line[module.rpartition(".")[2] + "_alone_ms"] = round(1000 * alone)
                inventories[module] = fleet(folder / f"{module}.json", options.hosts, ansible_python_interpreter=interpreter)
            print(json.dumps({**line, **compare(inventories, options)}), flush=True)
    finally:
        subprocess.run([LAB, "down", HOST], check=False, stdout=sys.stderr)


if __name__ == "__main__":
    main()

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a healthy fleet costs: ping, audit, a remediate that finds nothing to do, and a hand-written playbook with the same questions, side by side.

    python tests/bench/fleet.py [--hosts 10,50,100,200] [--own-cores 50,200] [--replayed 100,1000,3000] [--runs 3] [--forks 10] [--check]
    python tests/bench/fleet.py --record tests/fixtures/answers/healthy.json

Three fleets are measured:

* hosts reached by SSH: a few disposable hosts under as many names, each name with an SSH connection of its own. All of it runs on this machine's cores, the
  hosts' part too, so the wall time is the worst case: real hosts do their part side by side.
* the same with cores of their own: the hosts replay their part (replayed.py), so that this machine has the controller's part and SSH's only, as with real
  hosts.
* replayed hosts, which give a recorded answer (tests/bench/connection/replay.py): only the controller works, so this is its own cost.

A command is one ansible-playbook with its own start. CPU is that of its process and all children that it waited for (workers, ssh), without the kept-open
ssh connections; memory is the resident size of its largest process. The commands take turns, and medians are compared. Other work on the
machine disturbs wall times (see load_before) more than CPU. Prints lines of JSON; with ``--check`` the exit status is 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import replayed

CHECKOUT = Path(__file__).resolve().parents[2]
BENCH = CHECKOUT / "tests" / "bench"
LAB = CHECKOUT / "tests" / "lab" / "lab"
VENV = CHECKOUT / ".venv" / "bin"

COMMANDS = {"ping": BENCH / "ping.yml", "audit": "kataops.aio.audit", "remediate": "kataops.aio.remediate", "by_hand": BENCH / "handwritten.yml"}
#: Wall time as a multiple of ping's (at most), and the hand-written playbook's as a multiple of audit's (at least).
GOALS = {"audit/ping": 1.5, "remediate/ping": 1.6, "by_hand/audit": 5.0}
#: The lab's kernel limit is Debian's default: enough for these few sandboxes to come, so that the hosts are healthy.
HEALTHY = {"kata_aio_headroom": 4}


def lab(*arguments):
    return subprocess.run([LAB, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def make_machines(names):
    """Disposable hosts with a healthy Kata: the planted one with a QEMU that has both engines, and the keys that native needs."""
    qemus = Path(lab("qemu", "static-both").strip().splitlines()[-1])
    lab("up", *names, "--plant", "kata-3.7.0-native")
    config = "/opt/kata/share/defaults/kata-containers/configuration-qemu.toml"
    keys = "".join("-e 's/^#\\?%s *=.*/%s = true/' " % (key, key) for key in ("block_device_cache_set", "block_device_cache_direct"))
    repair = "cat >/opt/kata/bin/new && chmod 755 /opt/kata/bin/new && mv /opt/kata/bin/new /opt/kata/bin/qemu-system-x86_64 && sed -i %s %s" % (keys, config)
    for name in names:
        with (qemus / "static-both").open("rb") as binary:
            subprocess.run([LAB, "ssh", name, repair], check=True, stdin=binary)
    return json.loads(lab("inventory", *names))["all"]["hosts"]


def inventory(path, hosts):
    path.write_text(json.dumps({"all": {"hosts": hosts, "vars": HEALTHY}}))
    return path


def by_ssh(folder, machines, count, **more):
    """``count`` names that share the machines, each with a connection of its own."""
    taken = [dict(machine, **more) for machine in machines.values()]
    hosts = {
        "b%04d" % number: dict(taken[number % len(taken)], ansible_control_path="%s/c%04d" % (folder, number), ansible_ssh_retries=3) for number in range(count)
    }
    return inventory(folder / ("ssh-%d.json" % count), hosts)


def end_connections(folder):
    for path in folder.glob("c[0-9]*"):
        subprocess.run(["ssh", "-o", "ControlPath=%s" % path, "-O", "exit", "any"], check=False, stderr=subprocess.DEVNULL)


def by_replay(folder, count):
    hosts = {"s%05d" % number: {"ansible_connection": "replay", "ansible_python_interpreter": "/usr/bin/python3"} for number in range(count)}
    return inventory(folder / ("replay-%d.json" % count), hosts)


def environment(folder, **more):
    base = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    base.update(
        ANSIBLE_CONFIG=str(CHECKOUT / "ansible.cfg"),
        ANSIBLE_CONNECTION_PLUGINS=str(BENCH / "connection"),
        REPLAY_FACTS=str(folder / "facts.json"),
        ANSIBLE_PIPELINING="1",
        # No connection of the warming round may end before the last command has used it
        ANSIBLE_SSH_ARGS="-C -o ControlMaster=auto -o ControlPersist=30m",
        CI="true",
    )
    return {**base, **more}


def recorded(folder, name, machine):
    """What a host does and answers, before the controller has seen it; see replayed.py. The replayed hosts give the answer of kata_aio_facts."""
    hosts = inventory(folder / "one.json", {"one": machine})

    def run(module, **settings):
        options = ["-a", "headroom=%d" % HEALTHY["kata_aio_headroom"]] if module.endswith("kata_aio_facts") else []
        command = [VENV / "ansible", "one", "-i", hosts, "-m", module, *options]
        subprocess.run(command, cwd=CHECKOUT, env=environment(folder, **settings), check=True, stdout=subprocess.DEVNULL)

    told = replayed.record(name, run)
    (folder / "facts.json").write_text(told["kata_aio_facts"]["answer"])
    return told


def measured(folder, command, hosts, forks):
    """(wall seconds, CPU seconds, bytes of the largest process) of one ansible-playbook."""
    variables = {"kata_aio_report_dir": str(folder / "report"), "report": str(folder / "by-hand.json")}
    if command in ("ping", "by_hand"):
        variables.pop("kata_aio_report_dir")
    arguments = [VENV / "ansible-playbook", "-i", hosts, "-f", str(forks), "-e", json.dumps(variables), COMMANDS[command]]
    with open(folder / "out.txt", "wb") as out:
        started = time.monotonic()
        process = subprocess.Popen([str(one) for one in arguments], cwd=CHECKOUT, env=environment(folder), stdout=out, stderr=subprocess.STDOUT)
        _pid, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    text = (folder / "out.txt").read_text(errors="replace")
    if process.returncode != 0 or "unreachable=1" in text or (command != "by_hand" and "changed=1" in text):
        raise SystemExit("%s failed or was not healthy:\n%s" % (command, text[-3000:]))
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def compare(folder, kind, hosts, count, commands, options):
    """One line: the commands in turn, ``runs`` times each; over SSH after one round that opens the connections."""
    taken = {command: [] for command in commands}
    load = os.getloadavg()[0]
    for turn in range(0 if kind.startswith("ssh") else 1, options.runs + 1):
        for command in commands:
            if turn == 0 and command == "by_hand":
                continue
            result = measured(folder, command, hosts, options.forks)
            if turn:
                taken[command].append(result)
    medians = {command: [statistics.median(run[part] for run in runs) for part in range(3)] for command, runs in taken.items()}
    line = {"fleet": kind, "hosts": count, "forks": options.forks, "runs": options.runs, "load_before": round(load, 1)}
    for command, (wall, cpu, memory) in medians.items():
        line[command] = {"s": round(wall, 2), "cpu_ms_per_host": round(1000 * cpu / count, 1), "peak_mb": round(memory / 1e6, 1)}
    for name in GOALS:
        first, second = name.split("/")
        if first in medians and second in medians:
            line[name] = round(medians[first][0] / medians[second][0], 2)
            line[name + " cpu"] = round(medians[first][1] / medians[second][1], 2)
    print(json.dumps(line), flush=True)
    return line


def per_host(lines):
    """Kilobytes of memory that one more host takes, between each two sizes of a fleet."""
    found = {}
    for fewer, more in zip(lines, lines[1:]):
        for command in ("ping", "audit", "remediate"):
            grown = (more[command]["peak_mb"] - fewer[command]["peak_mb"]) * 1000 / (more["hosts"] - fewer["hosts"])
            found.setdefault(command, {})["%d to %d" % (fewer["hosts"], more["hosts"])] = round(grown, 1)
    return found


def missed(lines):
    bad = []
    for line in lines:
        for name, goal in GOALS.items():
            if name in line and (line[name] < goal if name == "by_hand/audit" else line[name] > goal):
                bad.append("%s hosts (%s): %s is %s, the goal is %s" % (line["hosts"], line["fleet"], name, line[name], goal))
    return bad


def main():
    def numbers(text):
        return [int(part) for part in text.split(",") if part]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=numbers, default=[10, 50, 100, 200], help="sizes of the fleet reached by SSH")
    parser.add_argument("--own-cores", type=numbers, default=[50, 200], help="sizes of the fleet by SSH whose hosts have cores of their own")
    parser.add_argument("--replayed", type=numbers, default=[100, 1000, 3000], help="sizes of the fleet of replayed hosts")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--forks", type=int, default=10)
    parser.add_argument("--machines", type=int, default=4, help="disposable hosts behind the names")
    parser.add_argument("--by-hand", type=int, default=50, help="the hand-written playbook is run over at most so many hosts, as it takes its time")
    parser.add_argument("--record", metavar="FILE", help="only write what the module answers on a healthy host")
    parser.add_argument("--check", action="store_true", help="exit status 1 where a goal is missed")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the hosts go, whatever ends this
    names = ["bench%d" % number for number in range(1, options.machines + 1)]
    lines = []
    try:
        machines = make_machines(names)
        # Unix sockets have short paths
        with tempfile.TemporaryDirectory(prefix="kb-", dir="/tmp") as made:
            folder = Path(made)
            told = recorded(folder, names[0], machines[names[0]])
            if options.record:
                Path(options.record).write_text(json.dumps(json.loads((folder / "facts.json").read_text()), indent=1) + "\n")
                return 0
            print(json.dumps({"cores": os.cpu_count(), "answer_bytes": len(told["kata_aio_facts"]["answer"]), "machines": len(machines)}), flush=True)
            for count in options.hosts:
                commands = [command for command in COMMANDS if command != "by_hand" or count <= options.by_hand]
                try:
                    lines.append(compare(folder, "ssh", by_ssh(folder, machines, count), count, commands, options))
                finally:
                    end_connections(folder)
            for name in names if options.own_cores else ():
                replayed.install(name, told)
            for count in options.own_cores:
                try:
                    hosts = by_ssh(folder, machines, count, ansible_python_interpreter=replayed.INTERPRETER)
                    lines.append(compare(folder, "ssh, cores of their own", hosts, count, ["ping", "audit", "remediate"], options))
                finally:
                    end_connections(folder)
            without_hosts = [
                compare(folder, "replayed hosts", by_replay(folder, count), count, ["ping", "audit", "remediate"], options) for count in options.replayed
            ]
            print(json.dumps({"kb_per_host": per_host(without_hosts)}), flush=True)
    finally:
        subprocess.run([LAB, "down", *names], check=False, stdout=sys.stderr)
    bad = missed(lines)
    for line in bad:
        print(line, file=sys.stderr)
    return 1 if bad and options.check else 0


if __name__ == "__main__":
    sys.exit(main())

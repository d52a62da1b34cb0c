# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's job on a disposable host that is broken as real ones are, or on the user's own hosts: remediate, audit, rollback."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import textwrap

from . import hosts, kernel, plants, qemus
from .places import CHECKOUT, LAB, STATE, cache
from .shell import LabError, run

HOST = "kata-host"
BUILDER = "builder"
PLANT = "kata-3.7.0-native"
CONFIGURATION = "/opt/kata/share/defaults/kata-containers/configuration.toml"
REPORT = CHECKOUT / "build" / "report"
FINGERPRINT = STATE / "demo.sha256"


def heading(text):
    print(f"\n== {text}\n", flush=True)


def playbook(name, inventory, arguments, variables=None):
    """Runs one of the collection's playbooks; returns its exit status."""
    command = [
        CHECKOUT / ".cache" / "venv-run" / "bin" / "ansible-playbook", "-i", inventory, f"playbooks/{name}.yml",
        "-e", json.dumps({"kata_aio_report_dir": str(REPORT), **(variables or {})}), *arguments,
    ]  # fmt: skip
    environment = {**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg")}
    sys.stdout.flush()
    return subprocess.run([str(part) for part in command], cwd=CHECKOUT, env=environment, stdin=subprocess.DEVNULL, check=False).returncode


def own_hosts(asked):
    """The job on the user's hosts: nothing is planted, nothing is started."""
    run(LAB / "env", "--run", timeout=900)
    code = playbook(asked.job, asked.inventory, asked.arguments)
    print(f"\nreport: {REPORT}")
    return code


def lab_playbook(asked, job=None, arguments=None):
    variables = {"kata_aio_hosts": HOST, "kata_aio_builder": BUILDER, "kata_aio_artifacts_dir": str(cache() / "artifacts")}
    inventory = hosts.write_inventory(STATE / "demo.yml", [HOST, BUILDER])
    return playbook(job or asked.job, inventory, asked.arguments if arguments is None else arguments, variables)


def hotplug():
    """What a sandbox's block device gets on the host now, told by a script that shares no code with the collection."""
    done = run(*hosts.ssh_command(HOST, "python3", "-", CONFIGURATION), stdin=(LAB / "kata_hotplug.py").read_text(), timeout=90)
    return json.loads(done.stdout)


def words(seen):
    """QEMU's own words of an answer."""
    return seen["answered"]["error"]["desc"] if "error" in seen["answered"] else json.dumps(seen["answered"])


def show(seen):
    print(f"a sandbox's disk, asked for as Kata's Go runtime asks, of {seen['path']} (QEMU {seen['version']}):")
    print(f"  -> {json.dumps(seen['asked'])}")
    print(f"  <- {json.dumps(seen['answered'])}")
    if seen["engine"]:
        print(f"  write of 64 KiB: {'on the disk' if seen['wrote'] else 'NOT on the disk'}; engine: {seen['engine']}")


def table(before, after):
    """Before and after, side by side."""
    rows = [("", "before", "after")]
    rows.append(("QEMU", *(f"{seen['path']} ({seen['version']})" for seen in (before, after))))
    rows.append(("engine asked for", *(str(seen["engine_asked"]) for seen in (before, after))))
    rows.append(("cache asked for", *(json.dumps(seen["asked"]["arguments"].get("cache")) for seen in (before, after))))
    rows.append(("QEMU's answer", words(before), words(after)))
    rows.append(("64 KiB written", *({True: "yes", False: "no", None: "no: no disk"}[seen["wrote"]] for seen in (before, after))))
    rows.append(("engine in the kernel", *(seen["engine"] or "none" for seen in (before, after))))
    for title, *cells in rows:
        columns = [textwrap.wrap(cell, 52, break_on_hyphens=False) or [""] for cell in cells]
        for number in range(max(map(len, columns))):
            left, right = (column[number] if number < len(column) else "" for column in columns)
            print(f"  {title if number == 0 else '':<21} {left:<53} {right}".rstrip())


def fingerprint():
    """Kind, mode, owner, target and content of everything below /opt/kata and /etc/containerd on the host."""
    script = (
        "cd / && find opt/kata etc/containerd -printf '%y %m %u:%g %p %l\\n' | sort"
        " && find opt/kata etc/containerd -type f -print0 | sort -z | xargs -0 sha256sum"
    )
    return run(*hosts.ssh_command(HOST, script), timeout=120).stdout


def standing():
    return any(entry["host"] == HOST and entry["running"] for entry in hosts.listed())


def make_host():
    """A fresh host with the fault, and the builder beside it."""
    heading("a disposable host with a real fault: " + plants.description(PLANT)["description"])
    qemus.build("static-none")
    print(f"{HOST} is {hosts.up(HOST, fresh=True)}")
    plants.plant(PLANT, HOST)
    FINGERPRINT.write_text(fingerprint())
    qemus.builder_up(BUILDER)


def remediate(asked):
    make_host()
    heading("before: what Kata gets on this host")
    before = hotplug()
    show(before)
    heading(f"playbooks/remediate.yml {shlex.join(asked.arguments)}")
    code = lab_playbook(asked)
    if code != 0:
        return code
    heading("after: the same request once more")
    after = hotplug()
    show(after)
    heading("before and after")
    table(before, after)
    if "--check" in asked.arguments or "-C" in asked.arguments:
        return 0
    repaired = "error" not in after["answered"] and after["wrote"] and (after["engine"] or "").startswith("native")
    if not repaired:
        print("\nthe playbook ended well, but this host's block I/O is not what it asked for (see above)")
    return 0 if repaired else 1


def audit(asked):
    if not standing():
        make_host()
    heading("playbooks/audit.yml")
    return lab_playbook(asked)


def rollback(asked):
    if not standing():
        make_host()
        heading("playbooks/remediate.yml, so that there is something to take back")
        if (code := lab_playbook(asked, "remediate", [])) != 0:
            return code
    changed = sorted(set(FINGERPRINT.read_text().splitlines()) ^ set(fingerprint().splitlines()))
    print("\nbelow /opt/kata and /etc/containerd, against what was planted:", *(changed or ["no difference"]), sep="\n  ")
    heading("playbooks/rollback.yml")
    code = lab_playbook(asked)
    same = FINGERPRINT.read_text() == fingerprint()
    print(f"\nafter the rollback, /opt/kata and /etc/containerd are {'byte for byte as before the repair' if same else 'NOT as before the repair'}")
    return code if same else code or 1


def on_the_lab(asked):
    run(LAB / "env", "--lab", timeout=900)
    run(LAB / "env", "--run", timeout=900)
    code = 1
    # The repair raises fs.aio-max-nr, which is the machine's
    with kernel.exclusive():
        try:
            code = {"remediate": remediate, "audit": audit, "rollback": rollback}[asked.job](asked)
        finally:
            print(f"\nreport: {REPORT}" if REPORT.exists() else "", flush=True)
            hosts.down([BUILDER] if asked.keep else [HOST, BUILDER])
            if asked.keep:
                print(f"the host stays: tests/lab/lab ssh {HOST}; make audit KEEP=1; make rollback. It shares the machine's kernel, whose")
                print("fs.aio-max-nr is put back when the host goes: make rollback, or tests/lab/lab down --all")
    return code


def main():
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("job", choices=["remediate", "audit", "rollback"])
    parser.add_argument("--inventory", help="your own hosts; without it a disposable host is made, broken and used")
    parser.add_argument("--keep", action="store_true", help="leave the disposable host up")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="after --: arguments for ansible-playbook")
    asked = parser.parse_args()
    asked.arguments = [argument for argument in asked.arguments if argument != "--"]
    try:
        return own_hosts(asked) if asked.inventory else on_the_lab(asked)
    except LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: stopped by the user; the next run cleans up what is left", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())

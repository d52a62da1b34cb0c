# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's job on a disposable host that is broken as real ones are, or on the user's own hosts: remediate, audit, rollback."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

from . import hosts, kernel, plants, qemus
from .places import CHECKOUT, LAB, STATE, cache
from .shell import LabError, run, shown

HOST = "kata-host"
BUILDER = "builder"
PLANT = "kata-3.7.0-native"
CONFIGURATION = "/opt/kata/share/defaults/kata-containers/configuration.toml"
REPORT = CHECKOUT / "build" / "report"
# With these ansible-playbook shows something of the playbook and runs nothing
ELSEWHERE = ("--syntax-check", "--list-hosts", "--list-tasks", "--list-tags", "-h", "--help", "--version")
CHECKS = ("--check", "-C")
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
    if "," not in asked.inventory and not (CHECKOUT / asked.inventory).exists():
        raise LabError(f"the inventory {asked.inventory} does not exist; expected a path, absolute or relative to {CHECKOUT}: INVENTORY=/path/inventory.yml")
    shown(LAB / "env", "--run")
    started = time.time()
    code = playbook(asked.job, asked.inventory, asked.arguments)
    return tell_report(started, code, asked.arguments)


def tell_report(started, code, arguments):
    """Says where this run's report is; a run without one has not looked at a host. Returns the exit status."""
    path = REPORT / "kata-aio-report.html"
    if path.exists() and path.stat().st_mtime >= started:
        print(f"\nreport: {path}", flush=True)
        return code
    if any("kata_aio_report" in argument or argument in ELSEWHERE for argument in arguments):
        return code
    print("\nno report was written: see above why", flush=True)
    return code or 1


def lab_playbook(asked, job=None, arguments=None):
    variables = {"kata_aio_hosts": HOST, "kata_aio_builder": BUILDER, "kata_aio_artifacts_dir": str(cache() / "artifacts")}
    inventory = hosts.write_inventory(STATE / "demo.yml", [HOST, BUILDER])
    return playbook(job or asked.job, inventory, asked.arguments if arguments is None else arguments, variables)


def hotplug():
    """What a sandbox's block device gets on the host now, told by a script that shares no code with the collection."""
    done = run(*hosts.ssh_command(HOST, "python3", "-", CONFIGURATION), stdin=(LAB / "kata_hotplug.py").read_text(), timeout=90)
    return json.loads(done.stdout)


def words(seen):
    """QEMU's own words of a refusal; a success has none."""
    return seen["answered"]["error"]["desc"] if "error" in seen["answered"] else "success"


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
        columns = [wrapped(cell, 52) for cell in cells]
        for number in range(max(map(len, columns))):
            left, right = (column[number] if number < len(column) else "" for column in columns)
            print(f"  {title if number == 0 else '':<21} {left:<53} {right}".rstrip())


def wrapped(text, width):
    """The text in lines of at most `width`; it is broken at spaces and after slashes only."""
    lines = [""]
    for piece in re.findall(r"[^ /]*[ /]|[^ /]+", text):
        if lines[-1] and len((lines[-1] + piece).rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return [line.rstrip() for line in lines]


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
    if any(argument in CHECKS for argument in asked.arguments):
        print("\ncheck mode: nothing was changed on the host. Without --check the repair is made and shown.")
        return 0
    heading("after: the same request once more")
    after = hotplug()
    show(after)
    heading("before and after")
    table(before, after)
    repaired = "error" not in after["answered"] and after["wrote"] and (after["engine"] or "").startswith("native")
    if not repaired:
        print("\nthe playbook ended well, but this host's block I/O is not what it asked for (see above)")
    return 0 if repaired else 1


def audit(asked):
    if not standing():
        make_host()
    heading("playbooks/audit.yml")
    started = time.time()
    code = lab_playbook(asked)
    written = REPORT / "kata-aio-report.json"
    if code == 2 and written.exists() and written.stat().st_mtime >= started and json.loads(written.read_text())["totals"]["verdicts"]["broken"]:
        print("\nthe audit found what was planted: the host is broken. On your own hosts it then ends with exit status 2, for CI and schedulers.")
        print("`make remediate` repairs such a host.")
        return 0
    return code


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


def announce(asked):
    """What is going to happen to the machine, before it does."""
    folder = cache()
    warm = any((folder / "qemus").glob("static-none-*")) and (asked.job == "audit" or any((folder / "artifacts").glob("*")))
    building = "about 30 s: QEMU is built already"
    if not warm:
        building = "about 9 minutes on 2 cores: QEMU is built, once broken as Kata's was and once right; the next time it takes 30 s"
    print(
        f"""make {asked.job}, on a disposable host: {building}.
  it starts   two hosts (privileged podman containers of this checkout, and one more while QEMU is built), and removes them at its end
  it changes  fs.aio-max-nr of this machine's kernel, which the hosts share, while it runs; its value is put back with the last host
  it keeps    {folder} (up to 1.5 GB), {CHECKOUT}/.cache and build/, podman's images localhost/kataops-aio-*, and the Debian packages
              that are missing now (podman, runc, mmdebstrap, zstd, ssh, iptables)
  it fetches  Debian and Python packages, and Debian's source of QEMU, from the mirrors that apt and pip of this machine name
Ctrl-C stops it and removes the hosts.""",
        flush=True,
    )


def farewell(asked):
    """What is left on the machine, and how to remove it."""
    folder = cache()
    left = [entry["host"] for entry in hosts.listed()]
    size = run("du", "-sh", folder, check=False).stdout.split()[:1]
    now, before = kernel.read(), kernel.recorded() or {}
    print("\nleft on this machine:")
    print(f"  hosts      {', '.join(left) or 'none of this checkout'}")
    changed = [f"{name} = {now[name]} (it was {value})" for name, value in before.items() if now.get(name) != value]
    print(f"  kernel     {', '.join(changed) + ', until the last disposable host goes' if changed else 'as it was'}")
    print(f"  cache      {folder} ({' '.join(size) or 'size not known'}); images and network in podman: remove both with `make clean-cache`")
    packages = folder / "installed-packages"
    if packages.exists():
        print(f"  packages   installed by this: apt-get purge {' '.join(sorted(set(packages.read_text().split())))}")
    if asked.keep:
        print(f"the host stays: tests/lab/lab ssh {HOST}; make audit KEEP=1; make rollback. `make rollback` or tests/lab/lab down --all removes it.")


def on_the_lab(asked):
    if os.geteuid() != 0:
        raise LabError("a disposable host needs root (podman, loop devices, kernel switches): run this as root, or on your own hosts with INVENTORY=")
    announce(asked)
    shown(LAB / "env", "--lab")
    shown(LAB / "env", "--run")
    code = 1
    started = time.time()
    # The repair raises fs.aio-max-nr, which is the machine's
    with kernel.exclusive():
        try:
            code = {"remediate": remediate, "audit": audit, "rollback": rollback}[asked.job](asked)
        finally:
            hosts.down([BUILDER] if asked.keep else [HOST, BUILDER])
            qemus.builder_down()
            if any(REPORT.glob("*.html")) and (REPORT / "kata-aio-report.html").stat().st_mtime >= started:
                print(f"\nreport: {REPORT}/kata-aio-report.html")
            farewell(asked)
    return code


def main():
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("job", choices=["remediate", "audit", "rollback"])
    parser.add_argument("--inventory", help="your own hosts; without it a disposable host is made, broken and used")
    parser.add_argument("--keep", action="store_true", help="leave the disposable host up")
    parser.epilog = "After -- stand arguments for ansible-playbook."
    given = sys.argv[1:]
    end = given.index("--") if "--" in given else len(given)
    asked = parser.parse_args(given[:end])
    asked.arguments = given[end + 1 :]
    # Ended from outside, it removes its hosts as after Ctrl-C
    signal.signal(signal.SIGTERM, signal.default_int_handler)
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

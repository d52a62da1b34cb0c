# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disposable hosts: privileged podman containers with systemd and sshd that Ansible reaches as it would a real host."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

from . import kernel
from .images import image
from .places import CHECKOUT, LOCKS, STATE, digest, locked
from .podman import podman
from .shell import LabError, run, say

NETWORK = "kataops-aio"
LABEL = "kataops.aio.lab"
LOCK = LOCKS / "kataops-aio-lab.lock"
KEY = STATE / "id_ed25519"
INVENTORY = STATE / "inventory.yml"
SSH_OPTIONS = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes")


def container(host):
    """The container's name: two checkouts on one machine do not meet."""
    return f"kataops-{digest(str(CHECKOUT))[:6]}-{host}"


def listed(everywhere=False):
    """The hosts as {name, host, checkout, running, address}, of this checkout or of all."""
    found = []
    names = podman("ps", "-a", "--filter", f"label={LABEL}", "--format", "{{.Names}}").stdout.split()
    # Another checkout may have removed one of them since: podman then complains, and tells of the others
    for one in json.loads(podman("inspect", *names, check=False).stdout or "[]") if names else []:
        labels = one["Config"]["Labels"]
        if everywhere or labels.get(f"{LABEL}.checkout") == str(CHECKOUT):
            network = one["NetworkSettings"]["Networks"].get(NETWORK, {})
            found.append({
                "name": one["Name"], "host": labels[f"{LABEL}.host"], "checkout": labels[f"{LABEL}.checkout"],
                "groups": [group for group in labels[f"{LABEL}.groups"].split(",") if group],
                "running": one["State"]["Running"], "address": network.get("IPAddress") or None,
            })  # fmt: skip
    return sorted(found, key=lambda entry: entry["host"])


def key():
    """This checkout's ssh key, made once."""
    if not KEY.exists():
        STATE.mkdir(parents=True, exist_ok=True)
        part = KEY.with_suffix(".part")
        for path in (part, part.with_suffix(".part.pub")):
            path.unlink(missing_ok=True)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "kataops-aio-lab", "-f", part)
        part.with_suffix(".part.pub").rename(KEY.with_suffix(".pub"))
        part.rename(KEY)
    return KEY


def clean_leftovers():
    """What a killed run or a deleted checkout left: its hosts, and the kernel's switches when no host lives any more."""
    with locked(LOCK):
        orphans = [entry["name"] for entry in listed(everywhere=True) if not Path(entry["checkout"]).is_dir()]
        if orphans:
            say(f"removing hosts of checkouts that are gone: {', '.join(orphans)}")
            podman("rm", "-f", "-t", "0", *orphans)
    put_kernel_back()


def put_kernel_back():
    """With the machine's last host go the kernel's changes. The kernel's lock is taken before the lab's, never after it: a test run holds it while it
    starts and removes hosts."""
    if kernel.recorded() is None or is_inhabited():
        return
    with kernel.exclusive(), locked(LOCK):
        if not is_inhabited():
            kernel.restore(forget=True)


def is_inhabited():
    return any(entry["running"] for entry in listed(everywhere=True))


def up(host, *, suite="bookworm", base=None, mounts=(), groups=(), fresh=False):
    """Starts the host (again, when `fresh`) and waits until it answers. `base` names another image than the suite's;
    `mounts` are (machine's folder, host's folder)."""
    base = base or image(suite)
    while not start(host, base, mounts, groups, fresh):
        pass
    podman("exec", "-i", container(host), "sh", "-c", "umask 077; mkdir -p /root/.ssh; cat >/root/.ssh/authorized_keys",
           stdin=key().with_suffix(".pub").read_text())  # fmt: skip
    wait_for_systemd(host)
    wait_for_ssh(address(host))
    return address(host)


def start(host, base, mounts, groups, fresh):
    """Starts the host where it is not up; False when the record of the kernel's switches went meanwhile, with another run's last host."""
    clean_leftovers()
    kernel.record()
    with locked(LOCK):
        if kernel.recorded() is None:
            return False
        if not fresh and any(entry["host"] == host and entry["running"] for entry in listed()):
            return True
        key()
        if podman("network", "exists", NETWORK, check=False).returncode != 0:
            podman("network", "create", "--label", f"{LABEL}=1", NETWORK)
        podman("rm", "-f", "-t", "0", "--ignore", container(host))
        options = [f"--volume={outside}:{inside}" for outside, inside in mounts]
        podman(
            "run", "-d", "--name", container(host), "--hostname", host, "--network", NETWORK, "--pull=never", "--systemd=always",
            # /dev/kvm, loop devices and a /proc/sys that can be written are what a Kata host has
            "--privileged",
            "--label", f"{LABEL}=1", "--label", f"{LABEL}.checkout={CHECKOUT}", "--label", f"{LABEL}.host={host}",
            "--label", f"{LABEL}.groups={','.join(groups)}",
            *options, base, "/sbin/init",
        )  # fmt: skip
    return True


def address(host):
    for entry in listed():
        if entry["host"] == host and entry["running"] and entry["address"]:
            return entry["address"]
    running = ", ".join(entry["host"] for entry in listed() if entry["running"]) or "none"
    raise LabError(f"host '{host}' is not up; up are: {running}. Start it: tests/lab/lab up {host}")


def wait_for_systemd(host, seconds=120):
    """Waits for the end of the boot. For its first moments systemd does not answer at all."""
    deadline = time.monotonic() + seconds
    while True:
        state = podman("exec", container(host), "systemctl", "is-system-running", "--wait", check=False, timeout=seconds).stdout.strip()
        if state in ("running", "degraded"):
            return
        if time.monotonic() > deadline:
            raise LabError(f"host {host} did not start within {seconds} s: systemd says '{state}'. See: podman --runtime runc logs {container(host)}")
        time.sleep(0.1)


def wait_for_ssh(where, seconds=30):
    deadline = time.monotonic() + seconds
    while True:
        try:
            with socket.create_connection((where, 22), timeout=2) as connection:
                if connection.recv(4) == b"SSH-":
                    return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise LabError(f"no ssh server answers at {where} after {seconds} s")
        time.sleep(0.05)


def down(hosts):
    """Removes the hosts (all of this checkout, when None). With the machine's last host go the kernel's changes.

    The network stays: a new one would give the next host the last one's address, to which an ssh connection may still be kept open."""
    with locked(LOCK):
        standing = listed()
        names = [entry["name"] for entry in standing if hosts is None or entry["host"] in hosts]
        if names:
            podman("rm", "-f", "-t", "0", "--ignore", *names)
    put_kernel_back()
    return [entry["host"] for entry in standing if entry["name"] in names]


def forget_network():
    """Removes the network, unless another checkout has hosts on it."""
    with locked(LOCK):
        if not listed(everywhere=True):
            podman("network", "rm", "-f", NETWORK, check=False)


def inventory(only=None):
    """Ansible's inventory of the hosts that are up, as plain data."""
    found = {
        entry["host"]: {
            "ansible_host": entry["address"],
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(key()),
            "ansible_ssh_common_args": " ".join(SSH_OPTIONS),
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        for entry in listed()
        if entry["running"] and entry["address"] and (only is None or entry["host"] in only)
    }
    groups = {}
    for entry in listed():
        for group in entry["groups"]:
            if entry["host"] in found:
                groups.setdefault(group, {"hosts": {}})["hosts"][entry["host"]] = {}
    return {"all": {"hosts": found, "children": groups}}


def write_inventory(path=INVENTORY, only=None):
    """Writes the inventory (JSON is YAML) in one rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(inventory(only), indent=2) + "\n")
    part.rename(path)
    return path


def ssh_command(host, *command):
    return ["ssh", "-i", str(key()), *SSH_OPTIONS, f"root@{address(host)}", *command]


def ssh(host, *command):
    """Replaces this process by ssh into the host."""
    arguments = ssh_command(host, *command)
    os.execvp(arguments[0], arguments)

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a lab host: does what Kata's Go runtime does for a sandbox's block device, and prints what QEMU and the kernel say (JSON).

Shares no code with the collection, so that it can contradict it. Needs Python >= 3.11 (tomllib) on the host.
Usage: python3 kata_hotplug.py CONFIGURATION
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import tomllib
from pathlib import Path

TIME_LIMIT = 30  # seconds for the whole conversation with QEMU


def effective(configuration):
    """[hypervisor.qemu] as Kata reads it: the resolved base file, then every entry of config.d beside it in byte order."""
    base = Path(configuration).resolve()
    drop_ins = sorted((base.parent / "config.d").glob("*"), key=lambda path: path.name.encode())
    values = {}
    for path in [base, *drop_ins]:
        values.update(tomllib.loads(path.read_text()).get("hypervisor", {}).get("qemu", {}))
    return values


@contextlib.contextmanager
def block_device():
    """A loop device as the sandbox's disk; a plain file where the host has no loop devices."""
    with tempfile.NamedTemporaryFile(dir="/var/tmp", prefix="kataops-lab-") as disk:
        disk.truncate(1 << 20)
        attached = subprocess.run(["losetup", "--find", "--show", disk.name], capture_output=True, text=True, check=False)
        if attached.returncode != 0:
            yield disk.name, "file"
            return
        device = attached.stdout.strip()
        try:
            yield device, "host_device"
        finally:
            subprocess.run(["losetup", "--detach", device], check=False)


def request(values, filename, driver):
    """blockdev-add as Kata's Go runtime sends it (src/runtime/virtcontainers/qemu.go, govmm: ExecuteBlockdevAddWithCache)."""
    node = {"driver": "raw", "node-name": "drive-lab", "read-only": False,
            "file": {"driver": driver, "filename": filename, "aio": values.get("block_device_aio", "io_uring")}}  # fmt: skip
    if values.get("block_device_cache_set"):
        node["cache"] = {"direct": values.get("block_device_cache_direct", False), "no-flush": values.get("block_device_cache_noflush", False)}
    return {"execute": "blockdev-add", "arguments": node}


class Monitor:
    """QMP over a socket pair: QEMU's own stdout stays free for what its monitor prints."""

    def __init__(self, qemu):
        ours, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            [qemu, "-machine", "none", "-nodefaults", "-display", "none", "-S",
             "-chardev", f"socket,id=qmp,fd={theirs.fileno()}", "-mon", "chardev=qmp,mode=control"],
            pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        theirs.close()
        guard = threading.Timer(TIME_LIMIT, self.process.kill)
        guard.daemon = True
        guard.start()
        self.stream = ours.makefile("rw")
        self.version = json.loads(self.stream.readline())["QMP"]["version"]["qemu"]
        self.ask({"execute": "qmp_capabilities"})

    def ask(self, message):
        self.stream.write(json.dumps(message) + "\n")
        self.stream.flush()
        while True:
            answer = json.loads(self.stream.readline())
            if "event" not in answer:
                return answer

    def engine(self):
        """What the kernel shows of the process: an AIO context, an io_uring ring, or neither."""
        proc = Path("/proc") / str(self.process.pid)
        if "[aio]" in (proc / "maps").read_text():
            return "native ([aio] in /proc/PID/maps)"
        links = [os.readlink(path) for path in (proc / "fd").iterdir()]
        if any("io_uring" in link for link in links):
            return "io_uring (anon_inode:[io_uring] in /proc/PID/fd)"
        return "threads (no trace of another engine in /proc/PID)"


def main():
    values = effective(sys.argv[1])
    result = {"path": values["path"], "engine_asked": values.get("block_device_aio")}
    with block_device() as (filename, driver):
        monitor = Monitor(values["path"])
        result["version"] = "{major}.{minor}.{micro}".format(**monitor.version)
        result["asked"] = request(values, filename, driver)
        result["answered"] = monitor.ask(result["asked"])
        result["wrote"] = result["engine"] = None
        if "error" not in result["answered"]:
            line = {"execute": "human-monitor-command", "arguments": {"command-line": 'qemu-io drive-lab "write -P 165 0 64k"'}}
            monitor.ask(line)
            result["engine"] = monitor.engine()
            with open(filename, "rb") as disk:
                result["wrote"] = disk.read(65536) == b"\xa5" * 65536
        monitor.process.kill()
        monitor.process.wait()
    print(json.dumps(result))


main()

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts with cores of their own, on a machine that has only the controller's: a host takes in a module by SSH, waits as long as its part took when it was done
alone, and gives the answer that it gave then.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

LAB = Path(__file__).resolve().parents[1] / "lab" / "lab"
MODULES = ("ansible.builtin.ping", "kataops.aio.kata_aio_facts")
#: On the host; to be its ansible_python_interpreter.
INTERPRETER = "/usr/local/bin/replay-python"

# Runs a module that Ansible left on the host, several times; the median in seconds, and the answer.
_ALONE = """
import glob, json, statistics, subprocess, sys, time
[module] = glob.glob("/root/.ansible/tmp/*/AnsiballZ_*.py")
taken = []
for _turn in range(7):
    started = time.monotonic()
    answer = subprocess.run([sys.executable, module], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True).stdout
    taken.append(time.monotonic() - started)
print(json.dumps({"seconds": statistics.median(taken), "answer": answer.decode()}))
"""
_SCRIPT = """#!/bin/sh
if [ "$(grep -c kata_aio_facts)" != 0 ]; then sleep %(kata_aio_facts).3f; exec cat /root/kata_aio_facts.json; fi
sleep %(ping).3f
exec cat /root/ping.json
"""


def on_host(host, command, **more):
    return subprocess.run([LAB, "ssh", host, command], check=True, capture_output=True, text=True, **more).stdout


def record(host, run):
    """Let the host do both modules alone.

    :arg run: a function that runs a module of Ansible on that host, given its name and Ansible's settings (environment variables).
    :returns: ``{module's last name: {"seconds": median, "answer": text}}``.
    """
    told = {}
    for module in MODULES:
        on_host(host, "rm -rf ~/.ansible/tmp")
        run(module, ANSIBLE_KEEP_REMOTE_FILES="1", ANSIBLE_PIPELINING="0")
        told[module.rpartition(".")[2]] = json.loads(on_host(host, "python3 -", input=_ALONE))
    on_host(host, "rm -rf ~/.ansible/tmp")
    return told


def install(host, told):
    """Put :data:`INTERPRETER` on a host, which replays what :func:`record` returned. Any other module than kata_aio_facts answers as ping did."""
    for name, one in told.items():
        on_host(host, "cat >/root/%s.json" % name, input=one["answer"])
    script = _SCRIPT % {name: one["seconds"] for name, one in told.items()}
    on_host(host, "cat >%s; chmod 755 %s" % (INTERPRETER, INTERPRETER), input=script)

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kills ansible-playbook at 20 points of a rollout over a few hosts.

    killed.py WORK PLAYBOOKS

WORK has fleet.yml (inventory) and killed.json (variables); PLAYBOOKS is the collection's folder. After each kill every host has to be wholly old or
wholly new, at once and a moment later (what was started on a host goes on there without its controller). Nothing is put in order before the next run:
that it comes further than the last one shows that the rollout goes on. Where all hosts are new they are rolled back, so that there is more to kill; also
where a run came to its end first, as one that has fewer hosts left to repair does on a fast machine: its point is tried again.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import yaml

WORK, PLAYBOOKS = Path(sys.argv[1]), Path(sys.argv[2])
POINTS = 20
# Tasks between two points; a rollout of one host has about 60
STRIDE = 3
FOLDER = "/opt/kata/share/defaults/kata-containers"
# What stands in Kata's folder; the QEMU that the new configuration names is run
LOOK = """
cd {folder} || exit 1
find . -type f ! -path './config.d/*' -exec sha256sum {{}} + | sort
echo --
if [ -d config.d ]; then find config.d -mindepth 1 -printf '%f %y\\n' | sort; fi
echo --
if [ -f config.d/60-kataops-aio.toml ]; then
  cat config.d/60-kataops-aio.toml
  echo --
  "$(sed -n 's/^path *= *"\\(.*\\)"/\\1/p' config.d/60-kataops-aio.toml)" --version | head -n 1
fi
""".format(folder=FOLDER)
KEYS = ("path", "block_device_aio", "block_device_cache_set", "block_device_cache_direct")


def playbook(name, **environment):
    """``(exit status, output)`` of one run, in a process group of its own."""
    command = ["ansible-playbook", f"--inventory={WORK}/fleet.yml", f"--extra-vars=@{WORK}/killed.json", str(PLAYBOOKS / name)]
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    output = process.communicate(timeout=300)[0]
    return process.returncode, output


def looked_at():
    """What :data:`LOOK` prints on each host."""
    options = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    found = {}
    for name, host in yaml.safe_load((WORK / "fleet.yml").read_text())["fleet"]["hosts"].items():
        ssh = ["ssh", *options, "-i", host["ansible_private_key_file"], "-l", host["ansible_user"], host["ansible_host"], LOOK]
        found[name] = subprocess.run(ssh, capture_output=True, text=True, check=True, timeout=60, stdin=subprocess.DEVNULL).stdout
    return found


def state(text, before):
    """``old`` or ``new``; anything else ends the test."""
    files, listing, *new = (part.strip() for part in text.split("--\n"))
    if files != before:
        raise SystemExit("Kata's own files have changed:\n%s\nbefore:\n%s" % (files, before))
    if not listing:
        return "old"
    if listing != "60-kataops-aio.toml f" or len(new) != 2:
        raise SystemExit("half a change:\n%s" % text)
    missing = [key for key in KEYS if not any(line.startswith(key + " =") for line in new[0].splitlines())]
    if missing or "QEMU emulator version" not in new[1]:
        raise SystemExit("half a change, %s:\n%s" % (missing, text))
    return "new"


def states(before):
    return {host: state(text, before[host]) for host, text in sorted(looked_at().items())}


def roll_back(before):
    code, output = playbook("rollback.yml")
    if code or set(states(before).values()) != {"old"}:
        raise SystemExit("the rollback failed (%d):\n%s" % (code, output))
    print("    all are new: rolled back", flush=True)


def main():
    before = {host: text.split("--\n")[0].strip() for host, text in looked_at().items()}
    chance = random.Random(20)
    killed = {"ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "callbacks"), "ANSIBLE_CALLBACKS_ENABLED": "kill_at"}
    for point in range(POINTS):
        after = chance.uniform(0, 0.6)
        for _attempt in range(2):
            code, output = playbook("remediate.yml", KILL_AT=str(2 + point * STRIDE), KILL_AFTER=str(after), **killed)
            if code != 0:
                break
            roll_back(before)
        if code != -9:
            raise SystemExit("it ended (%d) before it was killed at task %d:\n%s" % (code, 2 + point * STRIDE, output))
        at = next(line for line in output.splitlines() if line.startswith("KILLED AT: "))[11:]
        now = states(before)
        time.sleep(2)
        later = states(before)
        print("%2d  %-95s + %.2f s: %s, then %s" % (point + 1, at, after, json.dumps(now), json.dumps(later)), flush=True)
        if set(later.values()) == {"new"}:
            roll_back(before)
    code, output = playbook("remediate.yml")
    if code or set(states(before).values()) != {"new"}:
        raise SystemExit("the last run did not finish (%d):\n%s" % (code, output))
    print("the last run, which nobody killed, finished")


if __name__ == "__main__":
    main()

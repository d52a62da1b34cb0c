# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a playbook over slices of an inventory side by side, each in an ansible-playbook of its own (ansible-runner), and sum up what they hand on.

    slices.py -i inventory.yml --slices 4 kataops.aio.remediate [-e key=value ...] [--limit PATTERN] [--work FOLDER]

Hosts are dealt out in turn (host 1 to slice 1, host 2 to slice 2, ...), as AWX slices jobs. Waves and failure budget hold within a slice. Each slice
writes its report below FOLDER/slice-N/report; all share the folder of QEMU artifacts, which is locked while one is made. The exit status is that of the
worst slice.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import ansible_runner


def hosts_of(inventory, limit):
    """The hosts that a pattern selects, in the inventory's order."""
    done = subprocess.run(["ansible", limit, "-i", inventory, "--list-hosts"], capture_output=True, text=True, check=True)
    return [line.strip() for line in done.stdout.splitlines()[1:] if line.strip()]


def start(number, hosts, options):
    """One slice, started: ``(thread, runner)``."""
    folder = Path(options.work).resolve() / ("slice-%d" % number)
    (folder / "env").mkdir(parents=True, exist_ok=True)
    (folder / "limit").write_text("".join(host + "\n" for host in hosts))
    given = [word for pair in options.extra for word in ("-e", pair)]
    return ansible_runner.run_async(
        private_data_dir=str(folder),
        playbook=options.playbook,
        inventory=str(Path(options.inventory).resolve()),
        limit="@%s" % (folder / "limit"),
        cmdline=subprocess.list2cmdline(["-e", "kata_aio_report_dir=%s" % (folder / "report"), *given]),
        quiet=True,
    )


def handed_on(runner):
    """What the playbook gave to set_stats: the same that AWX hands to the next job."""
    found = {}
    for event in runner.events:
        if event["event"] == "playbook_on_stats":
            found.update(event["event_data"].get("artifact_data") or {})
    return found.get("kata_aio") or {}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("playbook")
    parser.add_argument("-i", "--inventory", required=True)
    parser.add_argument("-e", "--extra", action="append", default=[], help="extra variable, handed to every slice")
    parser.add_argument("--slices", type=int, default=2)
    parser.add_argument("--limit", default="all")
    parser.add_argument("--work", default="slices")
    options = parser.parse_args()
    hosts = hosts_of(options.inventory, options.limit)
    dealt = [hosts[number :: options.slices] for number in range(options.slices)]
    running = [(number, *start(number, part, options)) for number, part in enumerate(dealt, 1) if part]
    worst = 0
    for number, thread, runner in running:
        thread.join()
        told = handed_on(runner)
        worst = max(worst, runner.rc)
        print(json.dumps({"slice": number, "hosts": dealt[number - 1], "rc": runner.rc, "verdicts": told.get("verdicts"), "limit": told.get("limit")}))
    return worst


if __name__ == "__main__":
    sys.exit(main())

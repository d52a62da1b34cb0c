# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: `tests/lab/lab --help`."""

from __future__ import annotations

import argparse
import functools
import json
import sys

from . import hosts, images, kernel, plants, qemus
from .shell import LabError, say


def parser():
    top = argparse.ArgumentParser(prog="lab", description="Disposable hosts with planted faults, and the QEMU binaries that tests need.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name, does, **options):
        one = commands.add_parser(name, help=does, description=does, **options)
        one.set_defaults(do=globals()[f"do_{name}"])
        return one

    one = command("image", "make the podman image of a Debian suite")
    one.add_argument("suite", choices=sorted(images.SUITES))
    one = command("qemu", "build and cache test QEMUs; prints the folder for KATAOPS_LAB_QEMUS")
    one.add_argument("variant", nargs="*", help=f"{', '.join(qemus.known())}; all when none is named")
    one = command("up", "start hosts (standing ones stay), and print their addresses")
    one.add_argument("host", nargs="+")
    one.add_argument("--suite", default="bookworm", choices=sorted(images.SUITES))
    one.add_argument("--builder", action="store_true", help="a host with the build dependencies and the compiler's cache")
    one.add_argument("--group", action="append", default=[], help="inventory group (may be repeated)")
    one.add_argument("--plant", choices=plants.names())
    one.add_argument("--fresh", action="store_true", help="replace a standing host")
    one = command("plant", "plant a fault on a host that is up")
    one.add_argument("plant", choices=plants.names())
    one.add_argument("host", nargs="+")
    one = command("down", "remove hosts; with the machine's last one, the kernel's switches are put back")
    one.add_argument("host", nargs="*")
    one.add_argument("--all", action="store_true", help="every host of this checkout")
    one = command("inventory", "print the inventory of the hosts that are up, or write it")
    one.add_argument("host", nargs="*", help="only these")
    one.add_argument("--output", metavar="FILE")
    one = command("ssh", "a shell, or a command, on a host")
    one.add_argument("host")
    one.add_argument("remote", nargs=argparse.REMAINDER)
    one = command("list", "list the hosts of this checkout")
    one = command("kernel", "show or put back the kernel's AIO switches, which hosts share with the machine")
    one.add_argument("action", choices=["show", "restore"])
    one = command("clean", "remove this checkout's hosts, and the lab's network and images in podman that no other checkout uses")
    return top


def do_image(asked):
    print(images.image(asked.suite))


def do_qemu(asked):
    print(qemus.folder(asked.variant or qemus.known()))


def do_up(asked):
    for host in asked.host:
        start = qemus.builder_up if asked.builder else functools.partial(hosts.up, suite=asked.suite, fresh=asked.fresh)
        where = start(host, groups=asked.group)
        if asked.plant:
            plants.plant(asked.plant, host)
        print(f"{host} {where}")
    hosts.write_inventory()


def do_plant(asked):
    for host in asked.host:
        plants.plant(asked.plant, host)


def do_down(asked):
    if not asked.host and not asked.all:
        raise LabError("name the hosts, or say --all")
    gone = hosts.down(None if asked.all else asked.host)
    hosts.write_inventory()
    say(f"removed: {', '.join(gone) or 'nothing'}")


def do_inventory(asked):
    if asked.output:
        hosts.write_inventory(hosts.Path(asked.output), asked.host or None)
    else:
        print(json.dumps(hosts.inventory(asked.host or None), indent=2))


def do_ssh(asked):
    hosts.ssh(asked.host, *asked.remote)


def do_list(_asked):
    for entry in hosts.listed():
        print(entry["host"], entry["address"] or "-", "up" if entry["running"] else "stopped")


def do_kernel(asked):
    if asked.action == "restore":
        kernel.restore(forget=False)
    print(json.dumps({"now": kernel.read(), "recorded": kernel.recorded()}))


def do_clean(_asked):
    hosts.down(None)
    hosts.forget_network()
    kept = images.forget()
    say("removed this checkout's hosts and podman's copies of the images (the cache folder stays)")
    if kept:
        say(f"in use by another checkout's hosts, so they stay: {', '.join(kept)}")


def main():
    asked = parser().parse_args()
    try:
        asked.do(asked)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: stopped by the user; the next run cleans up what is left", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One QEMU process of a running Kata sandbox, by /proc: what it was asked for, and what the kernel shows of its block engine. PRIVATE to kataops.aio.

It only reads /proc. A sandbox's QMP socket takes a single client, the shim, so it is never connected to: what was hot-plugged over it is told by the
files that the process holds open, and the engine that was asked for over it is not known here (``asked`` is the command line's; Kata's cold-plugged
drives have ``aio=threads`` hard-coded). Who knows the configuration compares.

What the kernel shows of an engine:

* native: a mapping named ``[aio]`` for each Linux AIO context (QEMU 9.0 and newer: from the first I/O on);
* io_uring: a descriptor ``anon_inode:[io_uring]``. But QEMU 10.2 and newer waits for all its events with io_uring and so has such rings from its
  start, whatever the block engine; those carry poll requests (``op=6``, IORING_OP_POLL_ADD, in /proc/PID/fdinfo), the block layer's rings of older
  releases never do (measured on QEMU 7.2.22 and 11.1.2). Such a QEMU's rings tell nothing of its engine: io_uring and threads look alike there.
* threads: neither, though a block device is open.
"""

from __future__ import annotations

import json
import os
import re
import stat

from ansible_collections.kataops.aio.plugins.module_utils._host.proc import read_file

_NAME = r"sandbox-([A-Za-z0-9][A-Za-z0-9_.-]*)\Z"
_DELETED = " (deleted)"
_RING = "anon_inode:[io_uring]"
_ENGINES = ("threads", "native", "io_uring")
# Regular files there are guest memory, or what the guest opens through 9p, never a disk.
_NO_DISKS = (
    ("/memfd:", "/dev/shm/", "/dev/hugepages", "/anon_hugepage")  # nosec B108  # only compared
    + ("/run/kata-containers/", "/run/vc/", "/run/kata/", "/proc/", "/sys/")
)


def observe_process(folder, pid, asked, boot_time, any_context):
    """One of ``sandboxes.processes`` in docs/architecture.md, or None where the process has ended.

    :arg folder: its folder in proc(5). :arg asked: of :func:`read_arguments`. :arg boot_time: seconds since 1970, or None.
    :arg any_context: False: the machine has no Linux AIO context at all, so its maps need not be read.
    """
    started = _start_ticks(folder)
    problems = []
    binary, binary_state = _binary(folder, asked["argv0"], problems)
    contexts = _aio_contexts(folder, problems) if any_context else 0
    rings, loop_rings, disks = _descriptors(folder, asked, problems)
    uid = parse_uid(read_file(folder + "/status") or b"")
    if started is None or _start_ticks(folder) != started:
        return None  # it has ended, or its number is another process's by now
    observed = _observed(contexts, rings, loop_rings, disks, problems)
    return {
        "pid": pid,
        "sandbox_id": asked["sandbox_id"],
        "known_by": asked["known_by"],
        "uid": uid,
        "started": None if boot_time is None else boot_time + started // os.sysconf("SC_CLK_TCK"),
        "binary": binary,
        "binary_state": binary_state,
        "asked": asked["engines"],
        "observed": observed,
        "aio_contexts": contexts,
        "io_uring_rings": rings,
        "event_loop_rings": loop_rings,
        "iothreads": asked["iothreads"],
        "block_devices_open": disks,
        "reason": " ".join(problems) or None,
    }


def _observed(contexts, rings, loop_rings, disks, problems):
    """The engines that the kernel shows, [] where no block device was plugged in after boot, None where it can't be told."""
    if contexts is None or rings is None or disks is None:
        return None
    engines = ["native"] if contexts else []
    if not any(disk["plugged"] == "hot" for disk in disks):
        return engines  # a ring without a disk is the event loop's too: older releases make one while they start, and drop it
    if rings and loop_rings is None:
        problems.append("What its io_uring rings are for could not be read.")
        return engines or None
    if rings and not loop_rings:
        engines.append("io_uring")
    if engines:
        return engines
    if loop_rings:
        problems.append(
            "This QEMU waits for its events with io_uring (as QEMU 10.2 and newer do), so its rings do not tell"
            " whether its block devices use io_uring or threads; they do not use native."
        )
        return None
    return ["threads"]


def _binary(folder, argv0, problems):
    """(path, "current", "deleted", "replaced" or None)"""
    try:
        link = os.readlink(folder + "/exe")
        running = os.stat(folder + "/exe")
    except OSError as error:
        problems.append("exe: %s." % error.strerror)
        return None, None
    root = folder + "/root"  # the process may live in another mount namespace
    name = link
    if link.endswith(_DELETED) and not os.path.lexists(root + link):
        name = link[: -len(_DELETED)]
    # A binary that was moved aside (and another put in its place) keeps its inode under the new name; what it was started as tells.
    path = argv0 if os.path.isabs(argv0) and not os.path.islink(root + argv0) else name
    try:
        return path, "current" if _same_file(root + path, running) else "replaced"
    except (FileNotFoundError, NotADirectoryError):
        return path, "deleted"
    except OSError as error:
        problems.append("%s: %s." % (path, error.strerror))
        return name, None


def _same_file(path, running):
    there = os.stat(path)
    return (there.st_dev, there.st_ino) == (running.st_dev, running.st_ino)


def _aio_contexts(folder, problems):
    raw = read_file(folder + "/maps", problems)
    return None if raw is None else count_aio_contexts(raw)


def count_aio_contexts(raw):
    """The number of Linux AIO contexts in the bytes of /proc/PID/maps: the kernel maps one ring buffer named ``[aio]`` for each."""
    count, at = 0, raw.find(b"[aio]")
    while at >= 0:
        end = raw.find(b"\n", at)
        end = len(raw) if end < 0 else end
        fields = raw[raw.rfind(b"\n", 0, at) + 1 : end].split(None, 5)
        if len(fields) == 6 and fields[5] in (b"/[aio] (deleted)", b"/[aio]", b"[aio]"):
            count += 1
        at = raw.find(b"[aio]", end)
    return count


def _descriptors(folder, asked, problems):
    """(io_uring rings, those of them that are the event loop's, open disks)"""
    try:
        names = os.listdir(folder + "/fd")
    except OSError as error:
        problems.append("fd: %s." % error.strerror)
        return None, None, None
    rings, paths, cold = [], {}, set(asked["files"])
    for name in names:
        try:
            link = os.readlink("%s/fd/%s" % (folder, name))
        except OSError:
            continue  # closed since it was listed
        if link == _RING:
            rings.append(name)
        elif link.startswith("/") and not (link.startswith("/dev/") and _is_no_disk(link)) and name not in ("0", "1", "2"):
            if name in asked["fds"]:
                cold.add(link)
            paths.setdefault(link, []).append(name)
    disks = [disk for disk in (_disk(folder, path, paths[path], asked, cold) for path in sorted(paths)) if disk]
    return len(rings), _loop_rings(folder, rings), disks


def _is_no_disk(link):
    return link in ("/dev/null", "/dev/kvm", "/dev/net/tun", "/dev/urandom", "/dev/random", "/dev/zero", "/dev/sev") or link.startswith(
        ("/dev/vhost", "/dev/vfio", "/dev/pts/", "/dev/iommu", "/dev/tap", "/dev/shm/", "/dev/hugepages")  # nosec B108  # only compared
    )


def _loop_rings(folder, rings):
    """How many of the rings the event loop owns; QEMU has either all of its rings so, or none. None where that can't be read."""
    unread = 0
    for name in rings:
        raw = read_file("%s/fdinfo/%s" % (folder, name))
        if raw is None or b"PollList:" not in raw:
            unread += 1
        elif has_poll_requests(raw):
            return len(rings)
    return None if unread else 0


def has_poll_requests(raw):
    """Whether /proc/PID/fdinfo of an io_uring descriptor lists a waiting IORING_OP_POLL_ADD (6)."""
    _head, _separator, polls = raw.partition(b"PollList:")
    return b"op=6," in polls.partition(b"CqOverflowList:")[0]


def _disk(folder, path, names, asked, cold):
    if path.startswith(_NO_DISKS) or path in asked["memory_files"]:
        return None
    try:
        mode = os.stat("%s/fd/%s" % (folder, names[0])).st_mode
    except OSError:
        return None
    if stat.S_ISBLK(mode):
        kind = "block"
    elif stat.S_ISREG(mode):
        kind = "file"
    else:
        return None
    flags = [flag for flag in (parse_flags(read_file("%s/fdinfo/%s" % (folder, name)) or b"") for name in names) if flag is not None]
    if kind == "file" and flags and all(flag & os.O_APPEND or flag & os.O_ACCMODE == os.O_WRONLY for flag in flags):
        return None  # a log
    clean = path[: -len(_DELETED)] if path.endswith(_DELETED) else path
    return {
        "path": path,
        "kind": kind,
        "plugged": "cold" if path in cold or clean in cold else "hot",
        "direct": any(flag & os.O_DIRECT for flag in flags) if flags else None,
    }


# --- the command line ---


def parse_cmdline(raw):
    """The arguments in the bytes of /proc/PID/cmdline."""
    return [os.fsdecode(part) for part in raw.rstrip(b"\0").split(b"\0")]


def read_arguments(argv):
    """What the command line of Kata's QEMU says, or None where it is no Kata sandbox's. Never raises.

    Both runtimes start QEMU with ``-name sandbox-ID`` (Go adds ``,debug-threads=on`` where debugging is on). As anyone may name a machine so, a
    second trait is asked for: a path of the sandbox's own run folder (``/run/vc/vm/ID/``, ``/run/kata/ID/``, rootless below ``/run/user/UID/``), the
    QMP socket handed over as a descriptor or by runtime-rs' relative name, or the guest's kata-containers.target.
    """
    options = [(argv[i].lstrip("-"), argv[i + 1]) for i in range(1, len(argv) - 1) if argv[i].startswith("-")]
    match = None
    for option, value in options:
        if option == "name":
            match = re.match(_NAME, value.split(",")[0])
    if match is None:
        return None
    sandbox_id = match.group(1)
    known_by = ["name"] + _traits(sandbox_id, options)
    if len(known_by) == 1:
        return None
    asked = {
        "argv0": argv[0],
        "sandbox_id": sandbox_id,
        "known_by": known_by,
        "engines": [],
        "iothreads": 0,
        "files": set(),
        "memory_files": set(),
        "fds": set(),
    }
    for option, value in options:
        _read_option(option, value, asked)
    asked["engines"] = [engine for engine in _ENGINES if engine in asked["engines"]]
    return asked


def _traits(sandbox_id, options):
    traits = []
    folders = ("/vc/vm/%s/" % sandbox_id, "/run/kata/%s/" % sandbox_id)
    if any(folder in value for _option, value in options for folder in folders):
        traits.append("run_folder")
    if any(option == "qmp" and (value.startswith("unix:fd=") or value.startswith("unix:qmp.sock")) for option, value in options):
        traits.append("qmp_socket")
    if any(option == "append" and "kata-containers.target" in value for option, value in options):
        traits.append("guest_target")
    return traits


def _read_option(option, value, asked):
    if option not in ("drive", "blockdev", "object", "add-fd"):
        return
    pairs = _pairs(value)
    first = value.split(",")[0]
    if option == "object":
        if first == "iothread" or ("qom-type", "iothread") in pairs:
            asked["iothreads"] += 1
        asked["memory_files"].update(text for key, text in pairs if key == "mem-path")
    elif option == "add-fd":
        asked["fds"].update(text for key, text in pairs if key == "fd")
    else:
        files = [text for key, text in pairs if key.split(".")[-1] in ("file", "filename")]
        if not files or ("if", "pflash") in pairs:
            return
        asked["files"].update(files)
        # QEMU's own default is threads.
        asked["engines"] += [text for key, text in pairs if key.split(".")[-1] == "aio"] or ["threads"]


def _pairs(value):
    """The (key, text) pairs of an option's value, which is key=text,... (a doubled comma stands for itself) or JSON; nested keys as ``file.aio``."""
    if value.startswith("{"):
        try:
            return _flatten(json.loads(value), "", 0)
        except (ValueError, RecursionError):
            return []
    parts = value.replace(",,", "\0").split(",")
    return [(key, text.replace("\0", ",")) for key, separator, text in (part.partition("=") for part in parts) if separator]


def _flatten(node, prefix, depth):
    pairs = []
    if isinstance(node, dict) and depth < 20:
        for key, child in node.items():
            pairs += _flatten(child, prefix + "." + key if prefix else key, depth + 1)
    elif isinstance(node, str):
        pairs.append((prefix, node))
    return pairs


# --- other files of /proc ---


def parse_start_ticks(raw):
    """Field 22 of /proc/PID/stat: when the process started, in clock ticks since boot; None where it is no such line."""
    fields = raw.rpartition(b")")[2].split()  # the name in parentheses may hold anything
    if len(fields) > 19 and fields[19].isdigit() and len(fields[19]) < 20:
        return int(fields[19])
    return None


def _start_ticks(folder):
    return parse_start_ticks(read_file(folder + "/stat") or b"")


def parse_uid(raw):
    """The effective user id in /proc/PID/status, else None."""
    for line in raw.split(b"\n"):
        if line.startswith(b"Uid:"):
            fields = line.split()
            if len(fields) > 2 and fields[2].isdigit() and len(fields[2]) < 12:
                return int(fields[2])
    return None


def parse_flags(raw):
    """The open flags in /proc/PID/fdinfo/N (octal there), else None."""
    for line in raw.split(b"\n"):
        if line.startswith(b"flags:"):
            digits = line[6:].strip()
            if digits and not digits.strip(b"01234567") and len(digits) < 20:
                return int(digits, 8)
    return None

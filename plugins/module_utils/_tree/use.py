# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who still uses a QEMU tree: running processes, Kata's configuration, the journal. PRIVATE to kataops.aio.

Where it cannot be told, the tree counts as used.
"""

from __future__ import annotations

import os

from ansible_collections.kataops.aio.plugins.module_utils._change.journal import FOLDER, Journal
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._host.files import read_head
from ansible_collections.kataops.aio.plugins.module_utils._kata import collect as _kata

_LARGEST_FILE = 8 * 1024 * 1024


def users(tree, config_paths=(), state_dir=FOLDER, proc="/proc"):
    """Sentences that say who uses a tree; empty where nobody does.

    :arg tree: the tree's folder.
    :arg config_paths: Kata configurations that no CRI file names.
    :arg state_dir: the journal's folder; a tree that a rollback would need is in use.
    """
    return by_processes(tree, proc) + by_configuration(tree, config_paths) + by_journal(tree, state_dir)


def by_processes(tree, proc="/proc"):
    """Running processes whose program lies in the tree, told by device and inode, so that name spaces do not matter."""
    inodes = set()
    for base, _folders, files in os.walk(tree):
        for name in files:
            status = os.lstat(os.path.join(base, name))
            if status.st_mode & 0o111:
                inodes.add((status.st_dev, status.st_ino))
    pids = []
    for name in os.listdir(proc):
        if not name.isdigit():
            continue
        try:
            status = os.stat(os.path.join(proc, name, "exe"))
        except OSError:
            continue
        if (status.st_dev, status.st_ino) in inodes:
            pids.append(int(name))
    return ["process %d runs it" % pid for pid in sorted(pids)]


def by_configuration(tree, config_paths=()):
    """Kata configurations of this host in which the tree's name occurs."""
    name = os.path.basename(tree).encode()
    found = _kata.collect(extra_files=tuple(config_paths), run_version=lambda path: None)
    sentences = []
    for path, document in sorted(found["documents"].items()):
        if document["kind"] != "regular":
            continue
        try:
            if name in read_head(path, _LARGEST_FILE):
                sentences.append("%s names it" % path)
        except FileNotFoundError:
            continue
        except OSError as error:
            sentences.append("%s may name it, but cannot be read (%s)" % (path, error.strerror))
    return sentences


def by_journal(tree, state_dir=FOLDER):
    """Contents that a rollback would bring back (or that an interrupted change left half-way) in which the tree's name occurs."""
    name = os.path.basename(tree).encode()
    try:
        journal = Journal(state_dir)
        states = [(change["name"], change[which]) for _entry, change in journal.standing().values() for which in ("original", "before")]
        for entry in journal.pending():
            states += [(change["name"], change[state]) for change in entry["changes"] for state in ("before", "after")]
        needed = [path for path, state in states if "sha256" in state and name in journal.content(state["sha256"])]
    except (AioError, OSError) as error:
        return ["the journal may need it, but cannot be read (%s)" % error]
    return ["a rollback of %s would need it" % path for path in sorted(set(needed))]

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking our changes back, byte for byte, from what the ledger knows. PRIVATE to kataops.aio.

A rollback is itself a transaction of :mod:`_atomic` with an entry of its own, so what it replaces is in the ledger too.
"""

from __future__ import annotations

import base64
import difflib
import os

from ansible_collections.kataops.aio.plugins.module_utils._change import transaction as _atomic
from ansible_collections.kataops.aio.plugins.module_utils._change.ledger import Ledger, same_content, same_state
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError

MAX_DIFFERENCE_LINES = 200


def text_of(content):
    """Bytes as the text of a diff: empty for an absent file."""
    return "" if content is None else content.decode("utf-8", "backslashreplace")


def difference(old, new, old_name, new_name):
    """A unified diff of two contents (bytes or None) as lines, cut after MAX_DIFFERENCE_LINES."""
    lines = list(difflib.unified_diff(text_of(old).splitlines(), text_of(new).splitlines(), old_name, new_name, lineterm=""))
    if len(lines) > MAX_DIFFERENCE_LINES:
        lines[MAX_DIFFERENCE_LINES:] = ["… %d more lines" % (len(lines) - MAX_DIFFERENCE_LINES)]
    return lines


def _content_of(ledger, state):
    return None if state["absent"] else ledger.content(state["sha256"])


def _matches(info, names):
    return any(name == runtime["id"] or name in runtime["handlers"] for runtime in info.get("runtimes", []) for name in names)


def _restore(ledger, path, ours, first, *, undoes, folders, info):
    """The change that brings ``first`` (a STATE) back to ``path`` where ``ours`` stands now."""
    content = _content_of(ledger, first)
    return {
        "path": path,
        "expected_sha256": ours.get("sha256"),
        "content_b64": None if content is None else base64.b64encode(content).decode(),
        "mode": first.get("mode"),
        "uid": first.get("uid"),
        "gid": first.get("gid"),
        "xattrs": first.get("xattrs"),
        "mtime_ns": first.get("mtime_ns"),
        "remove_folders": folders,
        "undoes": undoes,
        "info": info,
    }


def plan(ledger, names, force):
    """The changes of a rollback.

    :arg names: handlers or base files; only what was changed for those. Empty: everything.
    :arg force: take back also what somebody else changed since.
    :returns: ``(changes, notes)``.
    :raises AioError: where somebody changed a file since and ``force`` is not set.
    """
    changes, notes = [], []
    all_seqs = {}
    for entry in ledger.entries():
        for change in entry["changes"]:
            all_seqs.setdefault(change["path"], []).append(entry["seq"])
    for path, chain in sorted(ledger.applied().items()):
        info = chain[-1][1]["info"]
        if names:
            if not _matches(info, names):
                continue
            others = [runtime["id"] for runtime in info.get("runtimes", []) if not _matches({"runtimes": [runtime]}, names)]
            if others:
                raise AioError("this file was changed for other runtimes too", path, "all of them or none in runtimes", "add %s" % ", ".join(others))
        first, last = chain[0][1]["before"], chain[-1][1]["after"]
        present, content = _atomic.look(path)
        if same_state(present, first):
            continue
        if not same_content(present, last):
            if present["absent"] and not os.path.isdir(os.path.dirname(path)):
                notes.append("%s is gone together with its folder: there is nothing to take back" % path)
                continue
            if not force:
                raise _changed_since(path, _content_of(ledger, last), content)
            notes.append("%s was changed by somebody else since; that is taken back too (its content is kept in the ledger)" % path)
        folders = sorted({folder for _entry, change in chain for folder in change["created_folders"]})
        changes.append(_restore(ledger, path, present, first, undoes=all_seqs[path], folders=folders, info=info))
    return changes, notes


def _changed_since(path, ours, present):
    return AioError(
        "somebody changed this file after us%s; it is left alone" % (" (it is gone)" if present is None else ""),
        path,
        "the content that we wrote; see the difference",
        "take that change out, or run again with force: true to put back what stood before us (what is there now stays in the ledger)",
        difference=difference(ours, present, "as we wrote it", "as it is now"),
    )


def rollback(state_dir, names, force, check_mode, about):
    """Take back all our changes that still stand (of the named runtimes).

    :returns: ``{"changed", "seq", "files": [{"path", "before", "after"}], "notes", "cautions", "recovered"}``; before and after are texts.
    """
    ledger = Ledger(state_dir)
    if not ledger.entries():
        return {
            "changed": False,
            "seq": None,
            "files": [],
            "notes": ["no change of ours is recorded in %s" % ledger.folder],
            "cautions": [],
            "recovered": [],
        }
    try:
        recovered = []
        if check_mode:
            changes, notes = plan(ledger, names, force)
            done = {"changed": bool(changes), "seq": None, "cautions": []}
            files = _files(changes)
        else:
            with ledger.lock():
                recovered = _atomic.settle_pending(ledger)
                changes, notes = plan(ledger, names, force)
                files = _files(changes)
                done = _atomic.run_locked(ledger, changes, dict(about, kind="rollback"))
        return dict(done, files=files, notes=notes, recovered=recovered)
    except OSError as exc:
        raise _atomic.os_failure(exc, "taking our changes back") from exc


def _files(changes):
    return [
        {
            "path": change["path"],
            "before": text_of(_atomic.look(change["path"])[1]),
            "after": text_of(change["content_b64"] and base64.b64decode(change["content_b64"])),
        }
        for change in changes
    ]


def undo(state_dir, seq, about):
    """Take back the one transaction ``seq``, as after a check that failed; the transactions before it stay applied.

    :raises AioError: where a file is no more as that transaction left it.
    """
    ledger = Ledger(state_dir)
    try:
        with ledger.lock():
            _atomic.settle_pending(ledger)
            entries = ledger.entries()
            entry = next((entry for entry in entries if entry["seq"] == seq and entry["state"] == "done"), None)
            if entry is None:
                raise AioError("there is no applied transaction %d" % seq, ledger.folder)
            chains = ledger.applied()
            changes = []
            for change in entry["changes"]:
                path = change["path"]
                present, content = _atomic.look(path)
                if not same_content(present, change["after"]):
                    raise _changed_since(path, _content_of(ledger, change["after"]), content)
                chain = chains.get(path, [])
                first = not chain or chain[0][0]["seq"] == seq
                older = [old["seq"] for old in entries if old["seq"] < seq and any(c["path"] == path for c in old["changes"])]
                undoes = [seq] + (older if first else [])
                folders, info = change["created_folders"], change["info"]
                changes.append(_restore(ledger, path, present, change["before"], undoes=undoes, folders=folders, info=info))
            return _atomic.run_locked(ledger, changes, dict(about, kind="rollback"))
    except OSError as exc:
        raise _atomic.os_failure(exc, "taking a change back") from exc

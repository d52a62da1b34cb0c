# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules journal and journal_info do on a host. PRIVATE to kataops.aio."""

from __future__ import annotations

import base64
import hashlib
import typing as t

from ansible_collections.kataops.aio.plugins.module_utils._aio_limits import without_us
from ansible_collections.kataops.aio.plugins.module_utils._change import files, rollback, transaction
from ansible_collections.kataops.aio.plugins.module_utils._change.journal import Journal
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError

Data = t.Dict[str, t.Any]


def roll_back(journal: Journal, request: Data, check_mode: bool) -> Data:
    """Undo what stands, or one transaction.

    :arg request: ``{transaction, tools, runtimes, force, edited}``; ``edited`` as :func:`rollback.roll_back` takes it.
    :returns: as :func:`rollback.roll_back`; of each file that another program changed ``present_b64`` and ``info`` are added to ``left``, so that
        the controller can tell our part from the rest.
    """
    about = {"tool": "journal", "kind": "rollback"}
    if request["transaction"] is not None:
        if check_mode:
            return rollback.foresee_revert(journal, request["transaction"])
        return rollback.revert(journal, request["transaction"], about)
    edited = dict(_sysctl_files(journal), **request.get("edited") or {})
    chosen = {"names": request["runtimes"], "tools": request["tools"]}
    done = rollback.roll_back(journal, about, force=request["force"], check_mode=check_mode, edited=edited, **chosen)
    known = journal.standing()
    for left in done["left"]:
        standing = known.get((left["kind"], left["name"]))
        if left["kind"] == "file" and left["case"] == "changed" and standing:
            _state, content = files.look(left["name"])
            left.update(present_b64=base64.b64encode(content or b"").decode(), info=standing[1]["info"])
    return done


def _sysctl_files(journal: Journal) -> dict[str, Data]:
    """Our sysctl file, if an administrator edited it, without our lines."""
    found = {}
    for (kind, name), (_entry, change) in journal.standing().items():
        if kind == "file" and change["info"].get("method") == "sysctl" and not change["after"]["absent"]:
            state, content = files.look(name)
            if content is not None and state["sha256"] != change["after"]["sha256"]:
                rest = without_us(content, journal.content(change["after"]["sha256"]))
                found[name] = {
                    "sha256": hashlib.sha256(content).hexdigest(),
                    "content_b64": None if rest is None else base64.b64encode(rest).decode(),
                }
    return found


def standing(journal: Journal) -> Data:
    """``{objects, pending}``: what of ours stands on this host, since when, by what; and the transactions that an interrupted run left unfinished."""
    try:
        objects = [
            {
                "kind": item.change["kind"],
                "name": item.change["name"],
                "case": item.case,
                "transaction": item.entry["seq"],
                "since": item.entry["time"],
                "tool": item.entry["tool"],
                "collection_version": item.entry["collection_version"],
                "runtimes": [runtime["id"] for runtime in item.change["info"].get("runtimes", [])],
            }
            for item in rollback.standing(journal)
        ]
        pending = [
            {"transaction": entry["seq"], "since": entry["time"], "objects": [change["name"] for change in entry["changes"]]} for entry in journal.pending()
        ]
    except OSError as exc:
        raise transaction.os_failure(exc, "reading the journal", journal.folder) from exc
    except (KeyError, TypeError) as exc:
        raise AioError("an entry of the journal is damaged: %s" % exc, journal.folder, remedy="restore it from a backup, or move it away") from exc
    return {"objects": objects, "pending": pending}

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host half of kata_config does for its controller half. PRIVATE to kataops.aio.

A request is ``{"do": name, "state_dir": folder, ...}``; see the functions for the rest. No TOML is read here.
"""

from __future__ import annotations

import base64
import typing as t

from ansible_collections.kataops.aio.plugins.module_utils._change import files, rollback, transaction
from ansible_collections.kataops.aio.plugins.module_utils._change.journal import Change, Journal
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._kata.collect import collect

Data = t.Dict[str, t.Any]


def answer(request: Data, check_mode: bool) -> Data:
    """Do what the controller half asks.

    :raises AioError: for what cannot be done, and if there is no request.
    """
    if not request:
        raise AioError("this module works only together with its action plugin", "kata_config", remedy="call it as kataops.aio.kata_config in a task")
    journal = Journal(request["state_dir"])
    try:
        return _do(journal, request, check_mode)
    except OSError as exc:
        raise transaction.os_failure(exc, "reading the journal or Kata's configuration", journal.folder) from exc


def _do(journal: Journal, request: Data, check_mode: bool) -> Data:
    about = {"tool": "kata_config", "kind": "change"}
    do = request["do"]
    if do == "collect":
        return _collect(journal, request)
    if do == "read":
        return {"contents": {path: _contents(journal, path) for path in request["paths"]}}
    if check_mode:
        raise AioError("%r changes the host, and this is check mode" % do, "host_request")
    if do == "recover":
        return {"recovered": transaction.recover(journal)}
    if do == "apply":
        return transaction.transact(journal, request["changes"], about)
    if do == "revert":
        return rollback.revert(journal, request["seq"], about)
    raise AioError("there is no request %r" % do, "host_request")


def _standing(journal: Journal) -> dict[str, Change]:
    return {name: change for (kind, name), (_entry, change) in journal.standing().items() if kind == "file"}


def _collect(journal: Journal, request: Data) -> Data:
    """``{kata, ledger, pending}``: the documents, our changes of files that stand, and the transactions that an interrupted run left unfinished."""
    standing = {}
    for path, change in _standing(journal).items():
        standing[path] = {
            "original": _brief(change["original"]),
            "after": _brief(change["after"]),
            "created": change["data"]["created_folders"],
            "info": change["info"],
        }
    pending = [{"seq": entry["seq"], "paths": [change["name"] for change in entry["changes"]]} for entry in journal.pending()]
    kata = collect(extra_files=request["extra_files"], wanted=request["wanted"])
    return {"kata": kata, "ledger": standing, "pending": pending}


def _brief(state: Data) -> Data:
    return {key: state[key] for key in ("absent", "sha256", "mtime_ns") if key in state}


def _contents(journal: Journal, path: str) -> Data:
    """``{present_b64, original_b64, info}`` of a file; the original only if what is there is what we wrote, and there was something before us."""
    present, content = files.look(path)
    original = None
    change = _standing(journal).get(path)
    if change and not present["absent"] and change["after"].get("sha256") == present["sha256"] and not change["original"]["absent"]:
        original = journal.content(change["original"]["sha256"])
    found = {key: None if value is None else base64.b64encode(value).decode() for key, value in (("present_b64", content), ("original_b64", original))}
    return dict(found, info=change["info"] if change else None)

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host half of kata_config does for its controller half. PRIVATE to kataops.aio.

A request is ``{"do": name, "state_dir": folder, ...}``; see the functions for the rest. No TOML is read here.
"""

from __future__ import annotations

import base64

from ansible_collections.kataops.aio.plugins.module_utils._change import rollback as _rollback
from ansible_collections.kataops.aio.plugins.module_utils._change import transaction as _atomic
from ansible_collections.kataops.aio.plugins.module_utils._change.ledger import Ledger
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._kata.collect import collect


def answer(request, check_mode):
    """Do what the controller half asks.

    :raises AioError: for what cannot be done, and where there is no request.
    """
    if not request:
        raise AioError("this module works only together with its action plugin", "kata_config", remedy="call it as kataops.aio.kata_config in a task")
    try:
        return _do(request, check_mode)
    except OSError as exc:
        raise _atomic.os_failure(exc, "reading the ledger or Kata's configuration") from exc


def _do(request, check_mode):
    about = {"tool": "kata_config", "kind": "change", "collection_version": request.get("collection_version")}
    state_dir = request["state_dir"]
    do = request["do"]
    if do == "collect":
        return _collect(request, state_dir)
    if do == "read":
        return {"contents": {path: _contents(Ledger(state_dir), path) for path in request["paths"]}}
    if do == "rollback":
        return _rollback.rollback(state_dir, request["names"], request["force"], check_mode, about)
    if check_mode:
        raise AioError("%r changes the host, and this is check mode" % do, "host_request")
    if do == "recover":
        return {"recovered": _atomic.recover(state_dir)}
    if do == "apply":
        return _atomic.transact(state_dir, request["changes"], about)
    if do == "undo":
        return _rollback.undo(state_dir, request["seq"], about)
    raise AioError("there is no request %r" % do, "host_request")


def _collect(request, state_dir):
    """``{kata, ledger, pending}``: the documents, our changes that still stand, and the transactions that a crash left in between."""
    ledger = Ledger(state_dir)
    standing = {}
    for path, chain in ledger.applied().items():
        first, last = chain[0][1], chain[-1][1]
        created = sorted({folder for _entry, change in chain for folder in change["created_folders"]})
        standing[path] = {"before": _brief(first["before"]), "after": _brief(last["after"]), "created": created, "info": last["info"]}
    pending = [{"seq": entry["seq"], "paths": [change["path"] for change in entry["changes"]]} for entry in ledger.pending()]
    kata = collect(extra_files=request["extra_files"], wanted=request["wanted"])
    return {"kata": kata, "ledger": standing, "pending": pending}


def _brief(state):
    return {key: state[key] for key in ("absent", "sha256", "mtime_ns") if key in state}


def _contents(ledger, path):
    """``{present_b64, original_b64}`` of a file; the original only where what stands there is what we wrote, and the ledger has what stood before."""
    present, content = _atomic.look(path)
    original = None
    chain = ledger.applied().get(path)
    if chain and not present["absent"] and chain[-1][1]["after"].get("sha256") == present["sha256"] and not chain[0][1]["before"]["absent"]:
        original = ledger.content(chain[0][1]["before"]["sha256"])
    return {key: None if value is None else base64.b64encode(value).decode() for key, value in (("present_b64", content), ("original_b64", original))}

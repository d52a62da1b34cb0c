# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Transactions over objects of a host: recorded in the journal first, compared, then made all or none. PRIVATE to kataops.aio.

A request is ``{kind, name, ..., info}``; the rest is the kind's (:mod:`files`, :mod:`values`).

The order, each step synced before the next: the contents into the journal's folder, the entry (``prepared``), everything new under temporary names,
``committed``, one step for each object (compared once more right before), ``done``. For one file that step is one rename, the only moment at which
anything changes. Of several objects all or none change: where one cannot be changed, the earlier ones are reverted, and :func:`recover` does the same
or the rest after a crash. What another program wrote to an object in between is never lost, and such an object never counts as reverted.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import typing as t

from ansible_collections.kataops.aio.plugins.module_utils._change import files, values
from ansible_collections.kataops.aio.plugins.module_utils._change.journal import PENDING, SCHEMA_VERSION, Change, Entry, Journal, Key, key_of
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._version import VERSION

#: What knows how to change each kind of object.
KINDS: dict[str, t.Any] = {"file": files, "value": values}

REMEDIES = {
    errno.ENOSPC: "free some space there, then run again",
    errno.EDQUOT: "free some space there, then run again",
    errno.EROFS: "remount the file system writable, then run again",
    errno.EACCES: "run with become: true",
    errno.EPERM: "run with become: true; check the file's attributes (lsattr), too",
}

Data = t.Dict[str, t.Any]


def os_failure(exc: OSError, doing: str, where: str | None = None) -> AioError:
    """An ``OSError`` as the error that the user gets."""
    return AioError(
        "%s failed: %s" % (doing, exc.strerror or exc),
        exc.filename2 or exc.filename or where,
        remedy=REMEDIES.get(exc.errno or 0, "correct that on the host, then run again"),
        errno=errno.errorcode.get(exc.errno or 0),
    )


def transact(journal: Journal, requests: list[Data], about: Data) -> Data:
    """Make all changes, or none.

    :arg about: ``{tool, kind}`` for the journal.
    :returns: ``{"changed": bool, "seq": int | None, "recovered": [...], "cautions": [...]}``; seq is None if every object already is as it should be.
    :raises AioError: nothing has changed then.
    """
    try:
        with journal.lock():
            recovered = settle(journal)
            return dict(run_locked(journal, requests, about), recovered=recovered)
    except OSError as exc:
        raise os_failure(exc, "changing the host", journal.folder) from exc


def recover(journal: Journal) -> list[Data]:
    """Complete or revert what an interrupted run left unfinished; does nothing if there is nothing of that.

    :returns: as :func:`settle`.
    """
    try:
        entries = journal.entries()
        if not any(entry["state"] in PENDING for entry in entries) and not _leftovers(entries):
            return []
        with journal.lock():
            return settle(journal)
    except OSError as exc:
        raise os_failure(exc, "settling an interrupted change", journal.folder) from exc


def run_locked(journal: Journal, requests: list[Data], about: Data) -> Data:
    """The same as :func:`transact` for a journal that is held and settled."""
    keys = [key_of(request) for request in requests]
    if len(set(keys)) != len(keys):
        raise AioError("an object occurs twice in one transaction", ", ".join(name for _kind, name in keys))
    _refuse_unsettled(journal, set(keys))
    standing = journal.standing()
    prepared = []
    for request in requests:
        known = standing.get(key_of(request))
        found = KINDS[request["kind"]].prepare(request, known[1] if known else None)
        if found is not None:
            prepared.append(found)
    if not prepared:
        return {"changed": False, "seq": None, "cautions": []}
    seq = journal.next_seq()
    changes = [change for change, _contents in prepared]
    for change in changes:
        change["info"] = {"tool": about["tool"], **change["info"]}
    for number, change in enumerate(changes):
        KINDS[change["kind"]].assign_names(change, seq, number, len(changes) > 1)
    entry = new_entry(seq, about, changes)
    for _change, contents in prepared:
        for content in contents:
            journal.keep(content)
    journal.record(entry)
    try:
        for change in changes:
            KINDS[change["kind"]].stage(change)
        journal.set_state(entry, "committed")
        for change in changes:
            KINDS[change["kind"]].apply(change)
    except BaseException:
        with contextlib.suppress(OSError, AioError):
            if not (entry["state"] == "committed" and len(changes) == 1 and KINDS[changes[0]["kind"]].made(changes[0])):  # the next run completes it
                _revert(journal, entry)
        raise
    cautions = [caution for change in changes for caution in KINDS[change["kind"]].cautions(change)]
    return {"changed": True, "seq": seq, "cautions": cautions + _finish(journal, entry)}


def new_entry(seq: int, about: Data, changes: list[Change]) -> Entry:
    """An entry of the journal, not yet recorded."""
    return {
        "schema_version": SCHEMA_VERSION,
        "seq": seq,
        "time": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "collection_version": VERSION,
        "tool": about["tool"],
        "kind": about["kind"],
        "changes": [{key: value for key, value in change.items() if not key.startswith("_")} for change in changes],
    }


def _refuse_unsettled(journal: Journal, keys: set[Key]) -> None:
    """An object whose interrupted change could not be settled blocks only itself."""
    for entry in journal.pending():
        for change in entry["changes"]:
            if key_of(change) in keys:
                raise AioError(
                    "an interrupted change of this could be neither completed nor reverted",
                    change["name"],
                    remedy="check whether its file system is full or read-only, then run again",
                )


def _finish(journal: Journal, entry: Entry) -> list[str]:
    """What follows the changes. Everything is in place by now: a failure here is a caution, and the next run settles the rest."""
    errors = []
    for change in entry["changes"]:
        try:
            KINDS[change["kind"]].finish(change)
        except OSError as exc:
            errors.append(str(exc))
    if not errors:
        try:
            journal.set_state(entry, "done")
            journal.prune()
        except (OSError, AioError) as exc:
            errors.append(str(exc))
    if errors:
        return ["the change is in place, but entry %d of the journal could not be closed: %s; the next run closes it" % (entry["seq"], "; ".join(errors))]
    return []


def settle(journal: Journal) -> list[Data]:
    """Settle every entry that an interrupted run left unfinished, of a journal that is held.

    :returns: ``[{seq, outcome, names, reason}]``; outcome is ``completed``, ``reverted``, ``kept`` (another program wrote to an object that had been
        changed; the others are reverted) or ``unsettled`` (with the reason; the objects are left as they are).
    """
    entries = journal.entries()
    for entry in _leftovers(entries):
        _discard(entry)
    return [_settle(journal, entry) for entry in entries if entry["state"] in PENDING]


def _leftovers(entries: list[Entry]) -> list[Entry]:
    """The newest entry, if it was reverted and something of it is still staged."""
    newest = [entry for entry in entries[-1:] if entry["state"] == "reverted"]
    return [entry for entry in newest if any(KINDS[change["kind"]].leftovers(change) for change in entry["changes"])]


def _settle(journal: Journal, entry: Entry) -> Data:
    found = {"seq": entry["seq"], "outcome": "reverted", "names": [change["name"] for change in entry["changes"]], "reason": None}
    try:
        if _can_complete(entry):
            for change in entry["changes"]:
                if not KINDS[change["kind"]].made(change):
                    KINDS[change["kind"]].apply(change)
            cautions = _finish(journal, entry)
            if cautions:
                raise AioError(cautions[0], journal.folder)
            found["outcome"] = "completed"
        else:
            found["outcome"] = _revert(journal, entry)
    except (OSError, AioError) as exc:
        failure = os_failure(exc, "settling it", found["names"][0]) if isinstance(exc, OSError) else exc
        found.update(outcome="unsettled", reason=str(failure))
    return found


def _can_complete(entry: Entry) -> bool:
    """Whether the change went live in part or wholly, and the rest of it still can."""
    if entry["state"] != "committed":
        return False
    made = [KINDS[change["kind"]].made(change) for change in entry["changes"]]
    return any(made) and all(done or KINDS[change["kind"]].ready(change) for change, done in zip(entry["changes"], made))


def _revert(journal: Journal, entry: Entry) -> str:
    """Revert what an entry changed. A change counts as reverted only once its object was seen without it; what another program wrote to stays changed.

    What was staged goes only after that was recorded: until then it tells which changes were made.

    :returns: ``reverted``, or ``kept`` if changes remain because another program wrote to their objects.
    """
    kept = []
    if entry["state"] != "prepared":
        if entry["state"] != "reverting":
            journal.set_state(entry, "reverting")
        for change in reversed(entry["changes"]):
            kind = KINDS[change["kind"]]
            if kind.made(change):
                kind.revert(change)
                if kind.position(change) == "other":
                    kept.insert(0, change)
    reverted = [change for change in entry["changes"] if change not in kept]
    if kept:
        entry["changes"] = kept
        journal.record(entry, "reverting")
        for change in kept:
            KINDS[change["kind"]].finish(change)
        journal.set_state(entry, "done")
    else:
        journal.set_state(entry, "reverted")
    _discard(dict(entry, changes=reverted))
    return "kept" if kept else "reverted"


def _discard(entry: Entry) -> None:
    """Remove what was staged for changes that were reverted, or never made."""
    for change in reversed(entry["changes"]):
        KINDS[change["kind"]].discard(change)

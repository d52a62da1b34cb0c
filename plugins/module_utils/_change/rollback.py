# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal read backwards: what of ours stands is undone, the newest change first. PRIVATE to kataops.aio.

A rollback is itself a transaction with an entry of its own, so what it replaces is in the journal, too. What it finds of an object is one of

``ours``      the object is as we left it: its original comes back
``changed``   another program changed it after us, and our part is still in it: only our part is taken out where that can be told, else it is left
``replaced``  another program replaced it, and nothing of ours is in it any more: nothing to undo
``gone``      it was removed, so nothing of ours is there: nothing to undo
``moved``     its name is a link now, and what it leads to is not ours: nothing to undo
``undone``    it already is what it was before us
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import os
import typing as t

from ansible_collections.kataops.aio.plugins.module_utils._change import transaction
from ansible_collections.kataops.aio.plugins.module_utils._change.journal import Change, Entry, Journal, Key, State, key_of, same_content, same_state
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError

MAX_DIFFERENCE_LINES = 200
#: Cases in which nothing of ours is left on an object.
NOTHING_LEFT = ("replaced", "gone", "moved", "undone")

Data = t.Dict[str, t.Any]


def text_of(content: bytes | None) -> str:
    """Bytes as the text of a diff: empty for an absent file."""
    return "" if content is None else content.decode("utf-8", "backslashreplace")


def difference(old: bytes | None, new: bytes | None, old_name: str, new_name: str) -> list[str]:
    """A unified diff of two contents as lines, cut after MAX_DIFFERENCE_LINES."""
    lines = list(difflib.unified_diff(text_of(old).splitlines(), text_of(new).splitlines(), old_name, new_name, lineterm=""))
    if len(lines) > MAX_DIFFERENCE_LINES:
        lines[MAX_DIFFERENCE_LINES:] = ["… %d more lines" % (len(lines) - MAX_DIFFERENCE_LINES)]
    return lines


class Item(t.NamedTuple):
    """One object on which something of ours may stand."""

    entry: Entry
    change: Change
    case: str
    present: State
    content: bytes | None


def _kept(journal: Journal, state: State) -> bytes | None:
    return None if state["absent"] or "sha256" not in state else journal.content(state["sha256"])


def examine(entry: Entry, change: Change, names: t.Container[str] = ()) -> Item:
    """What a rollback would find of a standing change.

    :arg names: the objects that have a standing change of their own.
    """
    kind = transaction.KINDS[change["kind"]]
    if change["kind"] == "file" and os.path.islink(change["name"]):
        target = os.path.realpath(change["name"])
        try:
            present, content = kind.look(target)
        except (AioError, OSError):
            present, content = {"absent": True}, None
        ours = same_content(present, change["after"]) and target not in names
        return Item(entry, change, "changed" if ours else "moved", present, content)
    present, content = kind.look(change["name"])
    if same_content(present, change["after"]):
        case = "ours"
    elif same_content(present, change["original"]):
        case = "undone"
    elif present["absent"]:
        case = "gone"
    else:
        case = "changed"
    return Item(entry, change, case, present, content)


def standing(journal: Journal, names: t.Sequence[str] = (), tools: t.Sequence[str] = ()) -> list[Item]:
    """What of ours stands (for the named runtimes, by the named tools), the newest change first.

    :raises AioError: if a file was changed for other runtimes than the named ones, too.
    """
    found = []
    known = journal.standing()
    for _key, (entry, change) in reversed(list(known.items())):
        if tools and entry["tool"] not in tools and change["info"].get("tool") not in tools:
            continue
        if names:
            runtimes = change["info"].get("runtimes", [])
            if not _matches(runtimes, names):
                continue
            others = [runtime["id"] for runtime in runtimes if not _matches([runtime], names)]
            if others:
                raise AioError("this file was changed for other runtimes, too", change["name"], "all of them or none in runtimes", "add %s" % ", ".join(others))
        found.append(examine(entry, change, {name for _kind, name in known}))
    return found


def _matches(runtimes: list[Data], names: t.Sequence[str]) -> bool:
    return any(name == runtime["id"] or name in runtime["handlers"] for runtime in runtimes for name in names)


def restore(journal: Journal, item: Item, to: State, content: bytes | None, info: Data | None = None) -> Data:
    """The request that brings an object to the state ``to`` with this content, from what is there now."""
    change = item.change
    if change["kind"] == "value":
        return {"kind": "value", "name": change["name"], "value": int(to["value"]), "info": info or change["info"]}
    return {
        "kind": change["kind"],
        "name": change["name"],
        "expected_sha256": item.present.get("sha256"),
        "content_b64": None if content is None else base64.b64encode(content).decode(),
        "mode": to.get("mode"),
        "uid": to.get("uid"),
        "gid": to.get("gid"),
        "xattrs": to.get("xattrs"),
        "mtime_ns": to.get("mtime_ns"),
        "whole_file": change["data"].get("whole_file", False),
        "remove_folders": change["data"].get("created_folders", []) if content is None else [],
        "info": info or change["info"],
    }


def roll_back(
    journal: Journal,
    about: Data,
    *,
    names: t.Sequence[str] = (),
    tools: t.Sequence[str] = (),
    force: bool = False,
    check_mode: bool = False,
    edited: t.Mapping[str, Data] | None = None,
) -> Data:
    """Undo all our changes that still stand (of the named runtimes, by the named tools).

    :arg force: put back the original also where another program changed the object since; what it wrote is kept in the journal.
    :arg edited: for files that another program changed: ``{name: {sha256, content_b64}}``, the present content without our part, by the sha256 of
        the content that it was made from; null content where nothing would be left of the file.
    :returns: ``{changed, seq, objects: [{kind, name, case, before, after}], left: [{kind, name, case, reason, remedy, difference}], notes, cautions,
        recovered}``; before and after are texts. ``left`` are the objects that could not be settled; all others are.
    """
    try:
        if check_mode:
            return _plan(journal, names, tools, force, edited or {}).as_result({"changed": None, "seq": None, "cautions": []}, [])
        with journal.lock():
            recovered = transaction.settle(journal)
            plan = _plan(journal, names, tools, force, edited or {})
            done = _execute(journal, plan, dict(about, kind="rollback"))
            plan.close(journal, about)
            return plan.as_result(done, recovered)
    except OSError as exc:
        raise transaction.os_failure(exc, "rolling back", journal.folder) from exc


def _execute(journal: Journal, plan: _Plan, about: Data) -> Data:
    """All at once; where that fails, each object by itself, so that one that cannot be restored does not keep the others from it."""
    try:
        return transaction.run_locked(journal, plan.requests, about)
    except (AioError, OSError):
        if not plan.requests:
            raise
    results = []
    for request, shown in zip(plan.requests, list(plan.objects)):
        try:
            results.append(transaction.run_locked(journal, [request], about))
        except (AioError, OSError) as exc:
            failure = transaction.os_failure(exc, "restoring it", request["name"]) if isinstance(exc, OSError) else exc
            plan.objects.remove(shown)
            plan.left.append({key: shown[key] for key in ("kind", "name", "case")})
            plan.left[-1].update(reason=str(failure), remedy=failure.remedy, difference=[])
    changed = [result for result in results if result["changed"]]
    return {"changed": bool(changed), "seq": changed[-1]["seq"] if changed else None, "cautions": [c for result in results for c in result["cautions"]]}


class _Plan:
    def __init__(self) -> None:
        self.requests: list[Data] = []
        self.objects: list[Data] = []
        self.left: list[Data] = []
        self.notes: list[str] = []
        self.nothing_left: list[Item] = []

    def as_result(self, done: Data, recovered: list[Data]) -> Data:
        changed = bool(self.requests) if done["changed"] is None else done["changed"]
        return dict(done, changed=changed, objects=self.objects, left=self.left, notes=self.notes, recovered=recovered)

    def close(self, journal: Journal, about: Data) -> None:
        """Record that nothing of ours is left on the objects where that was seen."""
        if not self.nothing_left:
            return
        changes = []
        for item in self.nothing_left:
            changes.append(dict(item.change, before=item.present, after=item.present, original=item.present, data=dict(item.change["data"])))
        entry = transaction.new_entry(journal.next_seq(), dict(about, kind="rollback"), changes)
        journal.record(entry, "done")


def _plan(journal: Journal, names: t.Sequence[str], tools: t.Sequence[str], force: bool, edited: t.Mapping[str, Data]) -> _Plan:
    plan = _Plan()
    pending = {key_of(change) for entry in journal.pending() for change in entry["changes"]}
    for item in standing(journal, names, tools):
        try:
            _add(journal, plan, item, force, edited, pending)
        except (AioError, OSError) as exc:
            failure = transaction.os_failure(exc, "reading it", item.change["name"]) if isinstance(exc, OSError) else exc
            plan.left.append(_left(item, str(failure), failure.remedy))
    return plan


def _add(journal: Journal, plan: _Plan, item: Item, force: bool, edited: t.Mapping[str, Data], pending: set[Key]) -> None:
    change = item.change
    if key_of(change) in pending:
        plan.left.append(_left(item, "an interrupted change of it could not be settled", "check its file system, then run again"))
        return
    case, to, content = item.case, change["original"], None
    if case in NOTHING_LEFT and not (case == "gone" and force and not to["absent"]):
        plan.nothing_left.append(item)
        if case != "undone":
            plan.notes.append("%s: %s; there is nothing to undo" % (change["name"], _WORDS[case]))
        return
    if case == "changed" and not force:
        without = edited.get(change["name"])
        if change["kind"] == "value":
            plan.notes.append("%s stays at %s: it was changed after us" % (change["name"], item.present.get("value")))
            plan.nothing_left.append(item)
            return
        if without is None or without["sha256"] != item.present.get("sha256") or os.path.islink(change["name"]):
            plan.left.append(_left(item, "another program changed this after us%s" % _leads_to(change["name"]), _FORCE))
            plan.left[-1]["difference"] = difference(_kept(journal, change["after"]), item.content, "as we wrote it", "as it is now")
            if os.path.islink(change["name"]):
                plan.left[-1]["case"] = "moved"
            return
        content = None if without["content_b64"] is None else base64.b64decode(without["content_b64"])
        if content == item.content:
            plan.nothing_left.append(item)
            plan.notes.append("%s: %s; there is nothing to undo" % (change["name"], _WORDS["replaced"]))
            return
        to = {"absent": True} if content is None else dict(item.present, sha256=hashlib.sha256(content).hexdigest(), size=len(content), mtime_ns=None)
        plan.notes.append("%s: another program changed this after us; only our part is taken out" % change["name"])
    else:
        if case == "changed":
            plan.notes.append("%s: what another program wrote since is kept in the journal (sha256 %s)" % (change["name"], item.present.get("sha256")))
        content = _kept(journal, to)
    if change["kind"] != "value" and same_state(item.present, to):
        plan.nothing_left.append(item)
        return
    plan.requests.append(dict(restore(journal, item, to, content), original=to))
    shown = {"before": _text(item.present, item.content), "after": _text(to, content)}
    plan.objects.append(dict(shown, kind=change["kind"], name=change["name"], case=case))


_FORCE = "take that change out, or run again with force: true to put back what was there before us (what is there now stays in the journal)"
_WORDS = {
    "replaced": "another program replaced it, and nothing of ours is in it",
    "gone": "it was removed by another program",
    "moved": "it is a link now, and what it leads to is not ours",
}


def _leads_to(name: str) -> str:
    return ": it is a link to %s now, which holds our content" % os.path.realpath(name) if os.path.islink(name) else ""


def _text(state: State, content: bytes | None) -> str:
    return state["value"] + "\n" if "value" in state else text_of(content)


def _left(item: Item, reason: str, remedy: str | None) -> Data:
    return {"kind": item.change["kind"], "name": item.change["name"], "case": item.case, "reason": reason, "remedy": remedy, "difference": []}


def revert(journal: Journal, seq: int, about: Data) -> Data:
    """Revert the one transaction ``seq``, as after a check that failed; what the transactions before it changed stays.

    :returns: as :func:`roll_back`.
    :raises AioError: if an object is no longer as that transaction left it; nothing has changed then.
    """
    try:
        with journal.lock():
            recovered = transaction.settle(journal)
            requests, objects = _reverting(journal, seq)
            done = transaction.run_locked(journal, requests, dict(about, kind="rollback"))
            return dict(done, objects=objects, left=[], notes=[], recovered=recovered)
    except OSError as exc:
        raise transaction.os_failure(exc, "reverting a change", journal.folder) from exc


def foresee_revert(journal: Journal, seq: int) -> Data:
    """What :func:`revert` would do."""
    requests, objects = _reverting(journal, seq)
    return {"changed": bool(requests), "seq": None, "cautions": [], "objects": objects, "left": [], "notes": [], "recovered": []}


def _reverting(journal: Journal, seq: int) -> tuple[list[Data], list[Data]]:
    entry = next((entry for entry in journal.entries() if entry["seq"] == seq and entry["state"] == "done"), None)
    if entry is None:
        raise AioError("there is no transaction %d that stands" % seq, journal.folder)
    requests, objects, earlier = [], [], _before(journal, seq)
    for change in reversed(entry["changes"]):
        item = examine(entry, change)
        if item.case != "ours":
            raise AioError(
                "another program changed this after us; it is left alone",
                change["name"],
                "the content that we wrote; see the difference",
                _FORCE,
                difference=difference(_kept(journal, change["after"]), item.content, "as we wrote it", "as it is now"),
            )
        older = earlier.get(key_of(change))
        info = older["info"] if older else change["info"]
        content = _kept(journal, change["before"])
        requests.append(dict(restore(journal, item, change["before"], content, info), original=change["original"]))
        shown = {"before": _text(item.present, item.content), "after": _text(change["before"], content)}
        objects.append(dict(shown, kind=change["kind"], name=change["name"], case="ours"))
    return requests, objects


def _before(journal: Journal, seq: int) -> dict[Key, Change]:
    """The newest change of each object before transaction ``seq``."""
    found = {}
    for entry in journal.entries():
        if entry["seq"] < seq and entry["state"] == "done":
            found.update((key_of(change), change) for change in entry["changes"])
    return found

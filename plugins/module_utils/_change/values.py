# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects of the kind ``value``: live kernel settings (sysctls). PRIVATE to kataops.aio.

A request is ``{kind: value, name, value, original, info}``: ``name`` with dots, such as ``fs.aio-max-nr``; ``value`` is an integer; ``original`` is the
STATE without us, of a rollback only. STATE is
``{"absent": true}`` (this kernel has no such setting) or ``{"absent": false, "value": "65536"}``.
"""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.kataops.aio.plugins.module_utils._change.journal import Change, State, same_content
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError

PROC_SYS = "/proc/sys"
_NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_-]+)+")

Request = t.Dict[str, t.Any]


def _path(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise AioError("this is not the name of a kernel setting", name, "a name such as fs.aio-max-nr")
    return os.path.join(PROC_SYS, *name.split("."))


def look(name: str) -> tuple[State, None]:
    """``(state, None)`` of a setting as it is now."""
    try:
        with open(_path(name), encoding="ascii", errors="replace") as stream:
            return {"absent": False, "value": stream.read(4096).strip()}, None
    except FileNotFoundError:
        return {"absent": True}, None


def prepare(request: Request, standing: Change | None) -> tuple[Change, list[bytes]] | None:
    """The change that a request comes to; None if the setting already has the value."""
    name = request["name"]
    before, _none = look(name)
    if before["absent"]:
        raise AioError("this kernel has no such setting", _path(name))
    after = {"absent": False, "value": "%d" % request["value"]}
    if same_content(before, after):
        return None
    original = request.get("original") or (standing["original"] if standing and same_content(before, standing["after"]) else before)
    change = {"kind": "value", "name": name, "before": before, "after": after, "original": original, "data": {}, "info": request.get("info") or {}}
    return change, []


def assign_names(change: Change, seq: int, number: int, several: bool) -> None:
    """A value needs no temporary names."""


def cautions(change: Change) -> list[str]:
    """A change of a value loses nothing."""
    return []


def stage(change: Change) -> None:
    """A value needs no staging."""


def _write(name: str, state: State) -> None:
    path = _path(name)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            os.write(fd, state["value"].encode() + b"\n")
        finally:
            os.close(fd)
    except OSError as exc:
        raise AioError(
            "the kernel refused the value %s: %s" % (state["value"], exc.strerror),
            path,
            "a writable /proc/sys",
            "run on the host itself as root, not in an unprivileged container",
        ) from exc


def apply(change: Change) -> None:
    """Write the value, if the setting still is as it was read."""
    found, _none = look(change["name"])
    if not same_content(found, change["before"]):
        raise AioError(
            "another process changed this in the meantime; nothing was written",
            _path(change["name"]),
            "%s (what was read), but it is now %s" % (change["before"]["value"], found.get("value")),
            "run again; it starts from what is there now",
        )
    _write(change["name"], change["after"])


def position(change: Change) -> str:
    """Where the setting stands: ``before``, ``after`` or ``other``."""
    found, _none = look(change["name"])
    return "after" if same_content(found, change["after"]) else "before" if same_content(found, change["before"]) else "other"


def made(change: Change) -> bool:
    """Whether the change went live. What was set again since (or by a reboot) cannot be told from what was never set, and counts as never set by us."""
    return position(change) == "after"


def ready(change: Change) -> bool:
    """Whether the change can still go live."""
    return position(change) == "before"


def revert(change: Change) -> None:
    """Put the old value back where the new one stands."""
    if position(change) == "after":
        _write(change["name"], change["before"])


def leftovers(change: Change) -> bool:
    """A value leaves nothing behind."""
    return False


def discard(change: Change) -> None:
    """A value leaves nothing behind."""


def finish(change: Change) -> None:
    """A value leaves nothing behind."""

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lossless editing of Kata's base files, and the text of a drop-in. PRIVATE to kataops.aio.

tomlkit does the editing; what it did is then proved: the new text has to mean the old one but for the owned keys, and no line may differ but those
that were asked for. A file for which that does not hold is refused.
"""

from __future__ import annotations

import copy
import math
import re
import typing as t

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.toml import parse

try:
    import tomlkit
    from tomlkit.container import Container
    from tomlkit.exceptions import TOMLKitError
    from tomlkit.items import Comment, InlineTable, Item, SingleKey, Table
except ImportError:  # a drop-in needs no editor; an edit of the base file says what is missing
    tomlkit = None  # type: ignore[assignment]  # typed as the module where it is there

BOM = "\ufeff"
BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")
HEADER = (
    "# Written by the Ansible collection kataops.aio (module kata_config). Change its settings instead of this file.\n"
    "# To take it back: ansible-playbook kataops.aio.rollback\n"
)

Edit = t.Dict[str, t.Any]


def drop_in_text(table: str, keys: dict[str, t.Any]) -> str:
    """The text of a drop-in that sets ``keys`` in ``[hypervisor.<table>]``; it depends on nothing else."""
    lines = ["%s = %s\n" % (key, value_text(keys[key])) for key in sorted(keys)]
    return "%s\n[hypervisor.%s]\n%s" % (HEADER, table, "".join(lines))


def _need_tomlkit() -> None:
    if tomlkit is None:
        raise AioError("the Python library tomlkit is missing on the controller", "kata_config", remedy="pip install tomlkit, for the Python that runs Ansible")


def value_text(value: t.Any) -> str:
    """A plain value as TOML."""
    _need_tomlkit()
    return tomlkit.item(value).as_string()


def plain_value(key: str, value: t.Any) -> t.Any:
    """A user's value as plain data.

    :raises AioError: where the key or the value is nothing that a hypervisor's table can hold.
    """
    where = "settings: %s" % key
    if not BARE_KEY.match(key):
        raise AioError("this is no key of a hypervisor's table", where, "letters, digits, _ and -")
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, (list, tuple)):
        return [plain_value(key, item) for item in value]
    raise AioError("a value of type %s cannot be set" % type(value).__name__, where, "a string, boolean, number, or a list of those")


def decode(content: bytes, where: str) -> str:
    """A base file's bytes as text, with its line ends as they are.

    :raises AioError: where it is not UTF-8 (both runtimes refuse it then).
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise AioError(
            "this is not UTF-8 (byte %d)" % exc.start, where, "a TOML document", "correct the file; Kata refuses to start any new sandbox with it"
        ) from exc


def set_keys(text: str, table: str, keys: dict[str, t.Any], runtimes: t.Iterable[str | None], where: str) -> tuple[str, list[Edit]]:
    """Set ``keys`` in ``[hypervisor.<table>]`` of a base file.

    An existing key keeps its place, spelling and comment. A missing one comes right after the comment in which it stands commented out, else after
    its nearest relatives in the table. The Go runtime takes keys in any letter case, so there every spelling that occurs gets the value; runtime-rs
    takes the exact spelling only.

    :arg runtimes: the runtimes that read the file: ``go``, ``rs`` (None counts as both).
    :returns: ``(new text, edits)``; an edit is ``{key, spelling, old, new}`` with values as TOML texts, ``old`` None where the key was not there.
    :raises AioError: where that cannot be done without touching anything else.
    """
    kinds = set(runtimes)
    any_case = bool(kinds & {"go", None})
    exact = bool(kinds & {"rs", None})
    before = _hypervisor(text, table, where)
    spellings = {}
    for key in keys:
        found = [name for name in before if name == key or (any_case and name.casefold() == key.casefold())]
        spellings[key] = found + ([key] if not found or (exact and key not in found) else [])
    wanted = {name: keys[key] for key, names in spellings.items() for name in names if not _same(before.get(name), keys[key])}
    if not wanted:
        return text, []
    document = _Document(text, where)
    edits = []
    for key, names in spellings.items():
        for name in names:
            if name in wanted:
                old = document.put(table, name, tomlkit.item(keys[key]))
                edits.append({"key": key, "spelling": name, "old": old, "new": value_text(keys[key])})
    return document.proved(table, wanted, ()), edits


def unset_keys(text: str, table: str, edits: list[Edit], where: str) -> str:
    """Take edits of :func:`set_keys` back out of a text that may have been changed elsewhere since.

    An owned key that somebody has given another value since is left alone.
    """
    present = _hypervisor(text, table, where)
    document = _Document(text, where)
    restored, removed = {}, []
    for edit in edits:
        name = edit["spelling"]
        if name not in present or not _same(present[name], _value(edit["new"])):
            continue
        if edit["old"] is None:
            document.take_out(table, name)
            removed.append(name)
        else:
            document.put(table, name, tomlkit.parse("k = %s\n" % edit["old"]).body[0][1])
            restored[name] = _value(edit["old"])
    return document.proved(table, restored, removed)


def is_empty(text: str, where: str) -> bool:
    """Whether a document sets nothing at all (tables may be there)."""

    def sets(value: t.Any) -> bool:
        return any(sets(item) for item in value.values()) if isinstance(value, dict) else True

    return not sets(parse(text, where))


def _value(raw: str) -> t.Any:
    return parse("k = %s\n" % raw, "ledger")["k"]


def _hypervisor(text: str, table: str, where: str) -> dict[str, t.Any]:
    found = parse(text[1:] if text.startswith(BOM) else text, where).get("hypervisor")
    found = found.get(table) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        raise AioError("there is no table [hypervisor.%s]" % table, where, "Kata's configuration for %s" % table)
    return found


class _Document:
    """A base file while it is edited; after each edit it is checked that one run of bytes came, went or was replaced, and nothing else."""

    def __init__(self, text: str, where: str) -> None:
        self.where = where
        self.mark = BOM if text.startswith(BOM) else ""
        self.original = self.text = text[len(self.mark) :]
        # A last line without a line end gets one for the time of the edit.
        self.end = "" if self.text.endswith("\n") else "\r\n" if "\r\n" in self.text else "\n"
        _need_tomlkit()
        try:
            self.model = tomlkit.parse(self.original + self.end)
        except (TOMLKitError, ValueError, RecursionError) as exc:
            raise _refused(where, str(exc)) from exc
        self._render(0, 0)

    def put(self, table: str, name: str, value: Item) -> str | None:
        """Give a key a value; the TOML text of the value that it had, or None."""
        place = _find(self.model, ("hypervisor", table), name)
        if place is None:
            _insert(self.model, table, name, value, self.where)
            self._render(0, None)
            return None
        container, index = place
        old = container.body[index][1].as_string()
        _replace(container, index, value)
        self._render(len(old), len(value.as_string()))
        return old

    def take_out(self, table: str, name: str) -> None:
        place = _find(self.model, ("hypervisor", table), name)
        if place is None:
            raise _refused(self.where, "it has no key %s in [hypervisor.%s]" % (name, table))
        container, index = place
        del container.body[index]
        self._render(None, 0)

    def _render(self, gone: int | None, came: int | None) -> None:
        """Take the model's text over if it differs in one run of at most ``gone`` old and ``came`` new characters (None: any number)."""
        try:
            new = tomlkit.dumps(self.model)
            new = new[: len(new) - len(self.end)]
        except (TOMLKitError, ValueError, RecursionError) as exc:
            raise _refused(self.where, str(exc)) from exc
        shorter = min(len(self.text), len(new))
        start = next((i for i in range(shorter) if self.text[i] != new[i]), shorter)
        end = next((i for i in range(shorter - start) if self.text[-1 - i] != new[-1 - i]), shorter - start)
        if (gone is not None and len(self.text) - start - end > gone) or (came is not None and len(new) - start - end > came):
            raise _refused(self.where, "its layout would not survive")
        self.text = new

    def proved(self, table: str, values: dict[str, t.Any], removed: t.Iterable[str]) -> str:
        """The new text, once it is shown that it means the old one but for the owned keys."""
        expected = copy.deepcopy(parse(self.original, self.where))
        expected["hypervisor"][table].update(values)
        for name in removed:
            del expected["hypervisor"][table][name]
        try:
            meaning = parse(self.text, self.where)
        except AioError as exc:
            raise _refused(self.where, str(exc)) from exc
        if not _same(meaning, expected):
            raise _refused(self.where, "another key would change its meaning")
        return self.mark + self.text


def _refused(where: str, why: str) -> AioError:
    return AioError(
        "this file cannot be edited without changing something else in it (%s)" % why,
        where,
        remedy="use a drop-in (method: drop_in), or set the keys by hand",
    )


def _containers(container: Container, path: tuple[str, ...], holder: Item | None = None) -> t.Iterator[tuple[Container, Item | None]]:
    """Every container that stands for the table ``path`` (a table may be spread over several places)."""
    if not path:
        yield container, holder
        return
    for key, item in container.body:
        if key is not None and key.key == path[0] and isinstance(item, (Table, InlineTable)):
            yield from _containers(item.value, path[1:], item)


def _find(document: t.Any, path: tuple[str, ...], name: str) -> tuple[Container, int] | None:
    for container, _holder in _containers(document, path):
        for index, (key, _item) in enumerate(container.body):
            if key is not None and key.key == name:
                return container, index
    return None


def _replace(container: Container, index: int, new: Item) -> None:
    key, old = container.body[index]
    new.trivia.indent, new.trivia.comment_ws, new.trivia.comment, new.trivia.trail = (
        old.trivia.indent,
        old.trivia.comment_ws,
        old.trivia.comment,
        old.trivia.trail,
    )
    container.body[index] = (key, new)


def _insert(document: t.Any, table: str, name: str, value: Item, where: str) -> None:
    headed = [(container, item) for container, item in _containers(document, ("hypervisor", table)) if isinstance(item, Table) and not item.is_super_table()]
    if not headed:
        raise _refused(where, "[hypervisor.%s] has no header of its own to put %s under" % (table, name))
    container, holder = headed[0]
    index, neighbour = _place(container, name)
    trivia = (neighbour or holder).trivia
    value.trivia.indent = trivia.indent if neighbour else ""
    value.trivia.trail = trivia.trail
    container.body.insert(index, (SingleKey(name), value))


def _place(container: Container, name: str) -> tuple[int, Item | None]:
    """Where a new key belongs: ``(index, the item before it)``; the item is None right below the header."""
    body = container.body
    sample = re.compile(r"^[ \t]*#+[ \t]*%s[ \t]*=" % re.escape(name))
    found = [index for index, (_key, item) in enumerate(body) if isinstance(item, Comment) and sample.match(item.as_string())]
    if found:
        last = found[-1]
        while last + 1 < len(body) and isinstance(body[last + 1][1], Comment):
            last += 1
        return last + 1, body[last][1]
    keys = {index: key.key for index, (key, item) in enumerate(body) if key is not None and not isinstance(item, Table) and type(item).__name__ != "AoT"}
    family = name.rsplit("_", 1)[0]
    while "_" in family:
        relatives = [index for index, key in keys.items() if key.startswith(family + "_")]
        if relatives:
            return relatives[-1] + 1, body[relatives[-1]][1]
        family = family.rsplit("_", 1)[0]
    if not keys:
        return 0, None
    last = max(keys)
    return last + 1, body[last][1]


def _same(one: t.Any, other: t.Any) -> bool:
    """Equality that tells 1 from true and 1.0, and takes NaN for itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other or (isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other))

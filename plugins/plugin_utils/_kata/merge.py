# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kata's tables while they are merged: what each runtime takes of a base file and of a drop-in. PRIVATE to kataops.aio.

The parts of :func:`effective.effective`; that file's docstring lists the problem codes. Go decodes each file into one structure, with names in any letter
case, and copies exactly the keys that a drop-in has; runtime-rs merges trees, and decodes the result.
"""

from __future__ import annotations

import functools
import typing as t

from ansible_collections.kataops.aio.plugins.plugin_utils._kata import keys, releases, values
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.toml import line_of

BLOCK_KEYS = ("block_device_aio", "block_device_cache_set", "block_device_cache_direct", "block_device_cache_noflush", "block_device_driver")

Data = t.Dict[str, t.Any]


def problem(code: str, where: str, detail: str | None) -> Data:
    """One problem as plain data."""
    return {"code": code, "where": where, "detail": detail}


class Merge:
    """One merge: the values so far, where each came from, and what was found on the way.

    ``hypervisors``, ``agents``: name → the values of keys that the release has. ``tables``: the same of ``runtime`` and ``factory``. ``others``: everything
    beside ``[hypervisor.*]`` as it stands. ``unsure``: why it cannot be told what Kata makes of the files.
    """

    def __init__(self, runtime: str, release: str | None) -> None:
        self.runtime = runtime
        self.release = release
        self.hypervisors: dict[str, Data] = {}
        self.sources: dict[str, dict[str, str]] = {}
        self.agents: dict[str, Data] = {}
        self.tables: dict[str, Data] = {"runtime": {}, "factory": {}}
        self.others: Data = {}
        self.problems: list[Data] = []
        self.unsure: list[str] = []
        self.tree: Data = {}  # runtime-rs: the merged tree
        self.origins: dict[tuple[str, ...], str] = {}  # runtime-rs: (section, name, key) → file
        self.texts: dict[str, str | None] = {}
        self.unread = False  # there is a file whose content is not known

    def add(self, code: str, where: str, detail: str | None) -> None:
        self.problems.append(problem(code, where, detail))

    def doubt(self, where: str, detail: str | None) -> None:
        """Something that makes it impossible to tell what Kata reads."""
        words = "%s: %s" % (where, detail)
        if words not in self.unsure:
            self.unsure.append(words)

    def set(self, name: str, key: str, value: t.Any, path: str) -> None:
        self.hypervisors.setdefault(name, {})[key] = value
        self.sources.setdefault(name, {})[key] = path

    @staticmethod
    def base_tables(document: Data) -> list[Data]:
        """The tables of the hypervisors of a file, in any letter case."""
        sections = [value for section, value in document.items() if values.fold(section) == "hypervisor" and isinstance(value, dict)]
        return [table for section in sections for table in section.values() if isinstance(table, dict)]

    def line(self, path: str, key: str) -> str:
        """``line N: ``, or nothing."""
        return line_of(self.texts.get(path), key)

    def faults(self, section: str, label: str, table: Data, where: t.Callable[[str], str]) -> None:
        """Tell everything that the runtime does not take in a table. ``where``: the file that a key came from."""
        for found in values.table_faults(self.runtime, self.release, section, table):
            key = found.path[1:].split(".", 1)[0].split("[", 1)[0]
            shown = table.get(key) if found.path == "." + key else None
            detail = "%s%s%s%s; %s" % (self.line(where(key), key), label, found.path, "" if shown is None else " = %s" % _shown(shown), found.words)
            if found.unsure:
                self.doubt(where(key), detail)
            else:
                self.add(found.code, where(key), detail)


def _origin(merge: Merge, base_path: str, section: str, name: str, key: str) -> str:
    """The file that a key of a sub-table came from."""
    return merge.origins.get((section, name, key), base_path)


def _shown(value: t.Any) -> str:
    words = repr(value)
    return words if len(words) <= 80 else words[:77] + "..."


def _deep(target: Data, source: Data) -> None:
    """Merge tables key by key; everything else (arrays too) is replaced. Nothing of the source is shared with the target afterwards."""
    for key, value in source.items():
        if isinstance(value, dict):
            if not isinstance(target.get(key), dict):
                target[key] = {}
            _deep(target[key], value)
        else:
            target[key] = value


# --- the Go runtime ---------------------------------------------------------------------------------------------------------------------------------


def _go_fields(release: str | None) -> tuple[str, ...]:
    """The tables that the Go runtime decodes into one structure each; ``image`` is one up to 3.3."""
    return ("factory", "runtime") if releases.at_least(release, "3.4.0") is not False else ("factory", "runtime", "image")


def _go_decode(merge: Merge, document: Data, path: str) -> dict[str, list[tuple[str, Data]]]:
    """The tables of the maps ``hypervisor`` and ``agent`` by ``"hypervisor NAME"``, each with the section's spelling; the others go to the merge.

    What has a wrong type is told: the runtime then refuses the file.
    """
    found: dict[str, list[tuple[str, Data]]] = {}
    for section, value in document.items():
        field = values.fold(section)
        if field in ("hypervisor", "agent"):
            if not isinstance(value, dict):
                merge.add("unknown_section", path, "%s%s is not a table: it is ignored" % (merge.line(path, section), section))
                continue
            for name, table in value.items():
                if not isinstance(table, dict):
                    merge.add("wrong_type", path, "%s%s.%s is not a table" % (merge.line(path, name), section, name))
                    continue
                merge.faults(field, "%s.%s" % (section, name), table, lambda key: path)
                found.setdefault("%s %s" % (field, name), []).append((section, table))
        elif field in _go_fields(merge.release):
            if not isinstance(value, dict):
                merge.add("wrong_type", path, "%s%s is not a table" % (merge.line(path, section), section))
                continue
            merge.faults(field, section, value, lambda key: path)
            _go_struct(merge, field, section, value, path)
        if field != "hypervisor":
            _deep(merge.others, {section: value})
    return found


def _go_values(merge: Merge, section: str, label: str, table: Data, path: str) -> Data:
    """The values of the keys that the release has, by the key's own name. A key that stands in several letter cases with different values is None."""
    spellings: dict[str, list[str]] = {}
    for key in table:
        spellings.setdefault(values.fold(key), []).append(key)
    taken: Data = {}
    for folded, spelled in spellings.items():
        known = keys.lookup("go", section, folded, merge.release)
        if folded not in keys.table("go", section):
            taken.update({key: table[key] for key in spelled})  # ignored by every release that we know; kept as it stands
            continue
        if known.has is False or known.type is None:
            continue  # this release ignores it
        first = table[spelled[0]]
        if any(table[key] != first or type(table[key]) is not type(first) for key in spelled):
            detail = "%s: %s" % (label, ", ".join("%s = %r" % (key, table[key]) for key in spelled))
            merge.add("key_spelled_twice", path, detail)
            merge.doubt(path, "Kata takes one of several spellings at random: " + detail)
            taken[folded] = None
        elif not values.fault("go", merge.release, known.type, first):
            if spelled != [folded]:
                merge.add("key_other_case", path, "%s.%s stands for %s" % (label, next(key for key in spelled if key != folded), folded))
            taken[folded] = first
    return taken


def _go_struct(merge: Merge, field: str, section: str, table: Data, path: str) -> None:
    if field in merge.tables:
        merge.tables[field].update(_go_values(merge, field, section, table, path))


def _twice(tables: list[tuple[str, Data]], taken: list[Data]) -> Data:
    """The values of tables of one name below several spellings of their section: Kata keeps one of them, at random."""
    names = dict.fromkeys(key for values_ in taken for key in values_)
    return {key: taken[0].get(key) if all(values_.get(key) == taken[0].get(key) for values_ in taken) else None for key in names}


def go_base(merge: Merge, document: Data, path: str) -> None:
    """Take a base file."""
    for label, tables in _go_decode(merge, document, path).items():
        section, name = label.split(" ", 1)
        taken = [_go_values(merge, section, "%s.%s" % (spelled, name), table, path) for spelled, table in tables]
        if len(taken) > 1 and any(each != taken[0] for each in taken):
            detail = "%s.%s stands below several spellings of %s" % (section, name, section)
            merge.add("key_spelled_twice", path, detail)
            merge.doubt(path, "Kata takes one of several tables at random: " + detail)
        if section == "agent":
            merge.agents[name] = _twice(tables, taken)
            continue
        merge.hypervisors.setdefault(name, {})
        merge.sources.setdefault(name, {})
        for key, value in _twice(tables, taken).items():
            merge.set(name, key, value, path)


def go_drop_in(merge: Merge, document: Data, source: Data, base_hypervisors: t.Sequence[str]) -> None:
    """Take a drop-in: exactly the keys that it has, by their exact names."""
    path = source["path"]
    for section in document:
        folded = values.fold(section)
        if folded in ("hypervisor", "agent") and section != folded:
            merge.add("section_other_case", path, "[%s] is silently ignored; expected: [%s]" % (section, folded))
            if folded in document:
                merge.doubt(path, "Kata takes one of several spellings of [%s] at random" % folded)
        elif folded not in ("hypervisor", "agent") + _go_fields(merge.release):
            merge.add("unknown_section", path, "[%s] is ignored" % section)
    for label, tables in _go_decode(merge, document, path).items():
        section, name = label.split(" ", 1)
        for spelled, table in tables:
            if spelled != section or not table:
                continue  # ignored; and a table without keys changes nothing
            if section == "hypervisor" and base_hypervisors and name not in base_hypervisors:
                merge.add("second_hypervisor", path, "[hypervisor.%s]; the base file has: %s" % (name, ", ".join(base_hypervisors)))
            for key, value in table.items():
                known = keys.lookup("go", section, key, merge.release)
                if known.has is True:
                    if not values.fault("go", merge.release, known.type or "", value):
                        if section == "hypervisor":
                            merge.set(name, key, value, path)
                        else:
                            merge.agents.setdefault(name, {})[key] = value
                    continue
                _go_unknown(merge, section, name, key, value, path)


def _go_unknown(merge: Merge, section: str, name: str, key: str, value: t.Any, path: str) -> None:
    """A key of a drop-in that the release does not have, or may not have."""
    known = keys.lookup("go", section, key, merge.release)
    label = "%s%s.%s.%s" % (merge.line(path, key), section, name, key)
    rows = keys.table("go", section).get(key)
    lower = key != values.fold(key) and values.fold(key) in keys.table("go", section)
    if lower:
        merge.add("unknown_key_in_drop_in", path, "%s; expected: in lower case" % label)
    elif known.has is None:
        merge.doubt(path, "%s: a key that this release may not know, and then refuses" % label)
        if section == "hypervisor":
            merge.set(name, key, value, path)
    elif rows:
        spans = " and ".join("%s to %s" % (row.since or "its beginning", row.until or "now") for row in rows)
        merge.add("key_not_in_release", path, "%s is a key of Kata %s; this is %s" % (label, spans, merge.release))
    else:
        merge.add("unknown_key_in_drop_in", path, label)


# --- runtime-rs -------------------------------------------------------------------------------------------------------------------------------------


def rs_file(merge: Merge, document: Data, path: str) -> None:
    """Take a base file or a drop-in into the tree."""
    for section, value in document.items():
        if section != "hypervisor" and values.fold(section) == "hypervisor":
            merge.add("section_other_case", path, "[%s] is silently ignored; expected: [hypervisor]" % section)
        for name, table in value.items() if isinstance(value, dict) else ():
            merge.origins[section, name] = path
            for key in table if isinstance(table, dict) else ():
                merge.origins[section, name, key] = path
        merge.origins[(section,)] = path
    _deep(merge.tree, document)


def _rs_taken(merge: Merge, section: str, table: Data) -> Data:
    """The values of the keys that the release has, by their own names."""
    taken: Data = {}
    for key, value in table.items():
        known = keys.lookup("rs", section, key, merge.release)
        if (known.has is not False or key not in keys.table("rs", section)) and not (known.type and values.fault("rs", merge.release, known.type, value)):
            taken[known.name] = value
    return taken


def rs_decode(merge: Merge, base_path: str) -> None:
    """Decode the merged tree."""
    tree = merge.tree
    merge.others = {section: value for section, value in tree.items() if section != "hypervisor"}
    for section in ("hypervisor", "agent"):
        value = tree.get(section, {})
        if not isinstance(value, dict):
            merge.add("wrong_type", merge.origins.get((section,), base_path), "%s is not a table" % section)
            continue
        for name, table in value.items():
            label = "%s.%s" % (section, name)
            if not isinstance(table, dict):
                where = merge.origins.get((section, name), base_path)
                if section == "agent" and isinstance(table, list):
                    merge.doubt(where, "%s is an array in place of a table, of which serde may take the members in their order" % label)
                else:
                    merge.add("wrong_type", where, "%s is not a table" % label)
                continue
            merge.faults(section, label, table, functools.partial(_origin, merge, base_path, section, name))
            taken = _rs_taken(merge, section, table)
            if section == "agent":
                merge.agents[name] = taken
                continue
            merge.hypervisors[name] = taken
            merge.sources[name] = {known: merge.origins.get((section, name, key), base_path) for key, known in _spelled(merge, table) if known in taken}
            _other_case(merge, label, table, name)
    table = tree.get("runtime", {})
    if not isinstance(table, dict):
        merge.add("wrong_type", merge.origins.get(("runtime",), base_path), "runtime is not a table")
        return
    merge.faults("runtime", "runtime", table, lambda key: merge.origins.get(("runtime", key), base_path))
    merge.tables["runtime"] = _rs_taken(merge, "runtime", table)


def _spelled(merge: Merge, table: Data) -> list[tuple[str, str]]:
    return [(key, keys.lookup("rs", "hypervisor", key, merge.release).name) for key in table]


def _other_case(merge: Merge, label: str, table: Data, name: str) -> None:
    known = keys.table("rs", "hypervisor")
    for key in table:
        if key not in known and values.fold(key) in known:
            where = merge.origins.get(("hypervisor", name, key), "")
            merge.add("key_other_case", where, "%s.%s is not read; expected: %s" % (label, key, values.fold(key)))


# --- both -------------------------------------------------------------------------------------------------------------------------------------------


def check_sections(merge: Merge, document: Data, path: str) -> None:
    """Block device keys outside of [hypervisor.*], as when they are appended to a file's end: both runtimes ignore them silently."""
    tables = [("", document)]
    for section, value in document.items():
        if isinstance(value, dict) and values.fold(section) != "hypervisor":
            tables.append((section + ".", value))
            tables += [("%s.%s." % (section, name), inner) for name, inner in value.items() if isinstance(inner, dict)]
    for prefix, table in tables:
        for key in table:
            if values.fold(key) in BLOCK_KEYS:
                merge.add("key_in_wrong_section", path, "%s%s%s is ignored; it belongs to [hypervisor.<name>]" % (merge.line(path, key), prefix, key))


def selected(merge: Merge, base_path: str) -> str | None:
    """The name of the hypervisor that the runtime uses; None where it has none, or takes one at random."""
    names = sorted(merge.hypervisors)
    if merge.runtime == "rs":
        wanted = merge.tables["runtime"].get("hypervisor_name")
        if wanted in names:
            return wanted
        detail = "runtime.hypervisor_name is %s; tables: %s" % (repr(wanted) if wanted else "not set", ", ".join(names) or "none")
        merge.add("hypervisor_not_selected", merge.origins.get(("runtime", "hypervisor_name"), base_path), detail)
        return None
    return names[0] if len(names) == 1 else None

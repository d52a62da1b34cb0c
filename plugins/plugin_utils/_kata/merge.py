# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kata's tables while they are merged: what each runtime takes of a base file and of a drop-in. PRIVATE to kataops.aio.

The parts of :func:`_kata_toml.effective`; that file's docstring lists the problem codes. Go decodes the base file into one structure, with keys in
any letter case, and copies exactly the keys that a drop-in has; runtime-rs merges trees and looks at the result.
"""

from __future__ import annotations

from ansible_collections.kataops.aio.plugins.plugin_utils._kata import releases

BLOCK_KEYS = ("block_device_aio", "block_device_cache_set", "block_device_cache_direct", "block_device_cache_noflush", "block_device_driver")
# Types of the keys that decide about block AIO; what has another type is refused by both runtimes.
TYPES = {
    "path": str,
    "block_device_aio": str,
    "block_device_driver": str,
    "block_device_cache_set": bool,
    "block_device_cache_direct": bool,
    "block_device_cache_noflush": bool,
    "enable_guest_swap": bool,
    "disable_block_device_use": bool,
    "enable_iothreads": bool,
}


def problem(code, where, detail):
    return {"code": code, "where": where, "detail": detail}


class Merge:
    """One merge: the values so far, where each came from, and what was found on the way."""

    def __init__(self, runtime, release):
        self.runtime = runtime
        self.release = release
        self.newer = releases.newer_than_known(release)  # may have keys that we do not know
        self.hypervisors = {}  # name -> {key: value}
        self.sources = {}  # name -> {key: path}
        self.others = {}  # the tables beside [hypervisor.*]
        self.problems = []

    def add(self, code, where, detail):
        self.problems.append(problem(code, where, detail))

    def set(self, name, key, value, path):
        self.hypervisors.setdefault(name, {})[key] = value
        self.sources.setdefault(name, {})[key] = path

    def check_type(self, name, key, value, where):
        wanted = TYPES.get(key)
        if wanted is not None and (not isinstance(value, wanted)):
            self.add("wrong_type", where, "hypervisor.%s.%s is %r; wanted: a %s" % (name, key, value, {str: "string", bool: "boolean"}[wanted]))
            return False
        return True


def _deep(target, source):
    """Merge tables key by key; everything else (arrays too) is replaced."""
    for key, value in source.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _deep(target[key], value)
        else:
            target[key] = value


def _go_base_table(merge, name, table, path):
    """A [hypervisor.<name>] table of the base file: Go matches its keys in any letter case."""
    spellings = {}
    for key in table:
        spellings.setdefault(key.casefold(), []).append(key)
    for folded, keys in spellings.items():
        if folded not in releases.GO_HYPERVISOR_KEYS:
            # Ignored by the runtime; kept as it stands, for it does no harm and may be a release's that we do not know.
            for key in keys:
                merge.set(name, key, table[key], path)
            continue
        values = [table[key] for key in keys]
        if len(keys) > 1 and any(value != values[0] or type(value) is not type(values[0]) for value in values):
            merge.add("key_spelled_twice", path, "hypervisor.%s: %s" % (name, ", ".join("%s = %r" % (key, table[key]) for key in keys)))
            merge.set(name, folded, None, path)
            continue
        for key in keys:
            if key != folded:
                merge.add("key_other_case", path, "hypervisor.%s.%s stands for %s" % (name, key, folded))
        if merge.check_type(name, folded, values[0], path):
            merge.set(name, folded, values[0], path)


def go_base(merge, document, path):
    hypervisor = {}
    for section, value in document.items():
        if section.casefold() != "hypervisor":
            merge.others[section] = value
        elif not isinstance(value, dict):
            merge.add("wrong_type", path, "%s is not a table" % section)
        else:
            _deep(hypervisor, value)
    for name, table in hypervisor.items():
        if not isinstance(table, dict):
            merge.add("wrong_type", path, "hypervisor.%s is not a table" % name)
            continue
        merge.hypervisors.setdefault(name, {})
        merge.sources.setdefault(name, {})
        _go_base_table(merge, name, table, path)


def rs_base(merge, document, path):
    for section, value in document.items():
        if section == "hypervisor":
            continue
        if section.casefold() == "hypervisor":
            merge.add("section_other_case", path, "[%s] is not read; wanted: [hypervisor]" % section)
        merge.others[section] = value
    hypervisor = document.get("hypervisor", {})
    if not isinstance(hypervisor, dict):
        merge.add("wrong_type", path, "hypervisor is not a table")
        return
    for name, table in hypervisor.items():
        if not isinstance(table, dict):
            merge.add("wrong_type", path, "hypervisor.%s is not a table" % name)
            continue
        merge.hypervisors.setdefault(name, {})
        merge.sources.setdefault(name, {})
        for key, value in table.items():
            if key not in releases.GO_HYPERVISOR_KEYS and key.casefold() in releases.GO_HYPERVISOR_KEYS:
                merge.add("key_other_case", path, "hypervisor.%s.%s is not read; wanted: %s" % (name, key, key.casefold()))
            merge.set(name, key, value, path)


def go_drop_in(merge, document, source, base_hypervisors):
    path = source["path"]
    for section, value in document.items():
        if section == "hypervisor":
            continue
        if section.casefold() in ("hypervisor", "agent") and section not in ("hypervisor", "agent"):
            merge.add("section_other_case", path, "[%s] is silently ignored; wanted: [%s]" % (section, section.casefold()))
        elif section.casefold() not in releases.GO_SECTIONS:
            merge.add("unknown_section", path, "[%s] is ignored" % section)
        elif section == "agent" and isinstance(value, dict):
            for agent, table in value.items():
                for key in table if isinstance(table, dict) else ():
                    if key not in releases.GO_AGENT_KEYS and not merge.newer:
                        merge.add("unknown_key_in_drop_in", path, "agent.%s.%s" % (agent, key))
        if isinstance(value, dict):
            _deep(merge.others.setdefault(section, {}) if isinstance(merge.others.get(section, {}), dict) else {}, value)
    hypervisor = document.get("hypervisor", {})
    if not isinstance(hypervisor, dict):
        merge.add("wrong_type", path, "hypervisor is not a table")
        return
    for name, table in hypervisor.items():
        if not isinstance(table, dict):
            merge.add("wrong_type", path, "hypervisor.%s is not a table" % name)
            continue
        if not table:
            continue  # a table without keys changes nothing
        if base_hypervisors and name not in base_hypervisors:
            merge.add("second_hypervisor", path, "[hypervisor.%s]; the base file has: %s" % (name, ", ".join(base_hypervisors)))
            continue
        for key, value in table.items():
            since = releases.GO_KEY_SINCE.get(key)
            other_case = key not in releases.GO_HYPERVISOR_KEYS and key.casefold() in releases.GO_HYPERVISOR_KEYS
            if other_case or (key not in releases.GO_HYPERVISOR_KEYS and not merge.newer):
                merge.add("unknown_key_in_drop_in", path, "hypervisor.%s.%s%s" % (name, key, "; wanted in lower case" if other_case else ""))
            elif since and releases.at_least(merge.release, since) is False:
                merge.add("key_not_in_release", path, "hypervisor.%s.%s came with %s; this is %s" % (name, key, since, merge.release))
            elif merge.check_type(name, key, value, path):
                merge.set(name, key, value, path)


def rs_drop_in(merge, document, source):
    path = source["path"]
    for section, value in document.items():
        if section == "hypervisor":
            continue
        if section.casefold() == "hypervisor":
            merge.add("section_other_case", path, "[%s] is silently ignored; wanted: [hypervisor]" % section)
        if isinstance(value, dict) and isinstance(merge.others.get(section), dict):
            _deep(merge.others[section], value)
        else:
            merge.others[section] = value
    hypervisor = document.get("hypervisor", {})
    if not isinstance(hypervisor, dict):
        merge.add("wrong_type", path, "hypervisor is not a table")
        return
    for name, table in hypervisor.items():
        if not isinstance(table, dict):
            merge.add("wrong_type", path, "hypervisor.%s is not a table" % name)
            continue
        merge.hypervisors.setdefault(name, {})
        merge.sources.setdefault(name, {})
        for key, value in table.items():
            old = merge.hypervisors[name].get(key)
            if isinstance(value, dict) and isinstance(old, dict):
                _deep(old, value)
                merge.sources[name][key] = path
            else:
                merge.set(name, key, value, path)


def check_base(merge, document, base, names):
    if document is None:
        return
    if not names:
        merge.add("base_empty", base["path"], "no [hypervisor.*] table")
    if merge.runtime == "go":
        for name in names:
            if name not in releases.GO_HYPERVISORS:
                merge.add("unknown_hypervisor", base["path"], "[hypervisor.%s]" % name)
        if len(names) > 1:
            merge.add("several_hypervisors", base["path"], ", ".join(names))


def check_sections(merge, document, path):
    """Block device keys outside of [hypervisor.*], as when they are appended to a file's end: both runtimes ignore them silently."""
    tables = [("", document)]
    for section, value in document.items():
        if isinstance(value, dict) and section.casefold() != "hypervisor":
            tables.append((section + ".", value))
            tables += [("%s.%s." % (section, name), inner) for name, inner in value.items() if isinstance(inner, dict)]
    for prefix, table in tables:
        for key in table:
            if key.casefold() in BLOCK_KEYS:
                merge.add("key_in_wrong_section", path, "%s%s is ignored; it belongs to [hypervisor.<name>]" % (prefix, key))


def selected(merge, base):
    names = sorted(merge.hypervisors)
    if merge.runtime == "rs":
        table = merge.others.get("runtime")
        wanted = table.get("hypervisor_name") if isinstance(table, dict) else None
        if wanted in merge.hypervisors:
            return wanted
        if wanted and names:
            merge.add("hypervisor_not_selected", base["path"], "runtime.hypervisor_name is %r; tables: %s" % (wanted, ", ".join(names)))
            return None
    return names[0] if len(names) == 1 else None


def check_values(merge, name, base):
    values, sources = merge.hypervisors.get(name, {}), merge.sources.get(name, {})
    if merge.runtime == "rs":
        for key, value in list(values.items()):
            if not merge.check_type(name, key, value, sources[key]):
                del values[key], sources[key]
    if name != "qemu":
        return
    aio = values.get("block_device_aio")
    has_key = releases.at_least(merge.release, "3.0.0" if merge.runtime == "go" else "3.20.0")
    if "block_device_aio" in values and merge.runtime == "go" and has_key is False:
        merge.add("aio_ignored", sources["block_device_aio"], "the key came with 3.0.0; this is %s" % merge.release)
    elif aio and aio not in releases.ENGINES and has_key is not False and not (merge.runtime == "rs" and values.get("disable_block_device_use") is True):
        merge.add("invalid_aio", sources["block_device_aio"], "block_device_aio = %r; wanted: one of %s" % (aio, ", ".join(releases.ENGINES)))
    path = values.get("path")
    if path and not path.startswith("/"):
        merge.add("path_not_absolute", sources["path"], "path = %r" % path)

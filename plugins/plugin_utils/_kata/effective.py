# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Kata runtime makes of a base file and its drop-ins: accepted or refused, and the values. PRIVATE to kataops.aio.

The rules were measured with Kata's own loaders (Go 2.5.2 to 4.1.0, runtime-rs 3.20.0 to 4.1.0) and are in :mod:`toml`, :mod:`keys`, :mod:`values`,
:mod:`merge` and :mod:`validate`. Problem codes, with what the runtime does:

=========================== ================================================================================================================
``base_missing``            there is no base file at that place: every new sandbox fails
``base_unreadable``         the host could not read it (``detail`` says why): its content is unknown
``base_not_regular``        it is a folder, FIFO, socket or device: refused (a FIFO hangs the Go runtime)
``base_toml_invalid``       it is not TOML as this release reads it, or not UTF-8: refused
``base_empty``              Go: it has no table of a hypervisor: refused for want of a kernel and an image
``several_hypervisors``     it has several: the Go runtime takes one at random
``unknown_hypervisor``      there is a table of a hypervisor that the runtime does not know: refused
``hypervisor_not_selected`` runtime-rs: ``runtime.hypervisor_name`` is missing or names no table: it loads, and every new sandbox fails
``key_other_case``          a key of the base file is in other letter case: obeyed by Go, ignored by runtime-rs
``key_spelled_twice``       a key stands in several letter cases with different values: Go picks one at random (the value is ``None``)
``key_in_wrong_section``    a block device key stands outside of the hypervisor's table: silently ignored
``wrong_type``              a value of any known key has another type or range than the runtime wants: refused
``invalid_aio``             ``block_device_aio`` is none of io_uring, native, threads: refused
``invalid_value``           a value that the runtime's validation refuses
``unknown_key``             runtime-rs: a key that it does not know, in a table where it refuses such: refused
``incomplete_hypervisor``   runtime-rs: a hypervisor's table, selected or not, without kernel or image: refused
``file_missing``            a file that the configuration names (kernel, image ...) does not exist: refused
``qemu_missing``            the same of the QEMU that it names
``configuration_unknown``   it cannot be told what the runtime makes of the files (``detail`` says why); nothing is claimed then
``path_not_absolute``       ``path`` is not an absolute path (TDX files up to 3.20 ship a placeholder): every new sandbox fails
``aio_ignored``             Go before 3.0.0: the key in the base file is silently ignored
``config_dir_not_a_folder`` ``config.d`` is a file or the like: refused
``config_dir_unreadable``   the host could not read it
``config_dir_dangling``     ``config.d`` is a dangling symlink: ignored, so drop-ins that were meant to count do not
``drop_in_directory``       a sub-folder in ``config.d`` (or a link to one): refused
``drop_in_fifo``            a FIFO: hangs the Go runtime for ever, refused by runtime-rs
``drop_in_not_regular``     a socket, a device or the like: refused
``drop_in_symlink``         runtime-rs: a symlink, even to a good file: refused
``drop_in_dangling``        a dangling symlink: refused
``drop_in_unreadable``      the host could not read it: its content is unknown
``drop_in_toml_invalid``    a file (of any name: there is no suffix filter) that is not TOML: refused
``drop_in_stray_name``      a file whose name is no drop-in's (backup, editor's leftover, hidden): it is read and applied nevertheless
``unknown_key_in_drop_in``  a key that no known release of the Go runtime has there: refused
``key_not_in_release``      a key that this release of the Go runtime does not have yet, or any more: refused
``unknown_section``         a table that the runtime does not know: ignored
``section_other_case``      a table in other letter case (``[Hypervisor.qemu]``): silently ignored
``second_hypervisor``       Go: a drop-in names a hypervisor that the base file does not have: refused where it is incomplete, else random
``drop_ins_unsupported``    this release of the runtime does not read ``config.d``
=========================== ================================================================================================================

:data:`FATAL` are the codes with which the runtime refuses (or never finishes) the whole configuration.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kataops.aio.plugins.plugin_utils._kata import merge as kata_merge
from ansible_collections.kataops.aio.plugins.plugin_utils._kata import releases, toml
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.documents import name_bytes
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.validate import Files, validate

Data = t.Dict[str, t.Any]

#: What a drop-in can set right that sorts later.
OVERRIDABLE = frozenset(("base_empty", "file_missing", "incomplete_hypervisor", "invalid_aio", "invalid_value", "path_not_absolute", "qemu_missing"))
FATAL = OVERRIDABLE | frozenset(
    (
        "base_missing",
        "base_not_regular",
        "base_toml_invalid",
        "unknown_hypervisor",
        "wrong_type",
        "config_dir_not_a_folder",
        "drop_in_directory",
        "drop_in_fifo",
        "drop_in_not_regular",
        "drop_in_symlink",
        "drop_in_dangling",
        "drop_in_toml_invalid",
        "unknown_key",
        "unknown_key_in_drop_in",
        "key_not_in_release",
    )
)


def _read(merge: kata_merge.Merge, source: Data, kind: str) -> Data | None:
    """The document of a source, or None; ``kind``: ``base`` or ``drop_in``. The document is not to be changed."""
    path, text, reason = source["path"], source["text"], source.get("reason") or ""
    if text is None:
        if reason.startswith("invalid UTF-8"):
            merge.add(kind + "_toml_invalid", path, reason)
        else:
            merge.add(kind + "_unreadable", path, reason)
            merge.unread = True
            merge.doubt(path, "its content is not known: %s" % reason)
        return None
    found = toml.read(text, merge.runtime, merge.release)
    merge.texts[path] = text
    if found.fault:
        merge.add(kind + "_toml_invalid", path, found.fault)
    elif found.unsure:
        merge.unread = True
        merge.doubt(path, found.unsure)
    return found.document


def _entry_problem(source: Data, runtime: str) -> tuple[str, str] | None:
    """What is wrong with a directory entry itself: ``(code, detail)`` or ``None``."""
    kind, name = source["kind"], source["name"]
    if kind == "directory":
        return "drop_in_directory", "%s is a folder; config.d may hold files only" % name
    if kind == "fifo":
        return "drop_in_fifo", "%s is a FIFO: %s" % (name, "the Go runtime waits for a writer for ever" if runtime == "go" else "refused")
    if kind == "symlink":
        if runtime == "rs":
            return "drop_in_symlink", "%s is a symbolic link; runtime-rs takes regular files only" % name
        target = source.get("target_kind")
        if target in ("missing", "loop"):
            return "drop_in_dangling", "%s leads nowhere" % name
        if target == "directory":
            return "drop_in_directory", "%s leads to a folder" % name
        if target == "fifo":
            return "drop_in_fifo", "%s leads to a FIFO: the Go runtime waits for a writer for ever" % name
        if target == "device" and source.get("target") == "/dev/null":
            return None  # reads as an empty file
        return None if target in ("regular", "unreadable") else ("drop_in_not_regular", "%s leads to a %s" % (name, target))
    return None if kind in ("regular", "unreadable") else ("drop_in_not_regular", "%s is a %s" % (name, kind))


def stray_name(name: str) -> bool:
    """Is this a name that people do not mean as a drop-in (and that both runtimes read all the same)?"""
    return not name.endswith(".toml") or name.startswith(".")


def _unasked(path: str) -> Data | None:
    return None


def effective(base: Data, drop_ins: t.Sequence[Data] = (), runtime: str = "go", release: str | None = None, files: Files = _unasked) -> Data:
    """Merge a base file and its drop-ins by a runtime's rules.

    :arg base: ``{path, text, kind, reason}`` of the base file: ``text`` is None when it could not be had, ``reason`` says why.
    :arg drop_ins: the same for each entry of ``config.d``, with ``name``, in any order; symlinks with ``target`` and ``target_kind`` too.
    :arg runtime: ``go`` or ``rs``.
    :arg release: the release of the runtime, or None when it is not known.
    :arg files: what is known of a path that the configuration names: ``{exists, kind, size}``, or None where the host was not asked.
    :returns: ``{hypervisor, hypervisors, values, sources, document, problems, refused, unknown}``. ``values``: the keys of the selected hypervisor that the
        release has; ``sources``: the file that each comes from; ``document``: the merged tables as a whole; ``refused``: does the runtime refuse the
        configuration (the values are then those of the parts that it would have taken); ``unknown``: why it cannot be told what the runtime makes of
        it, or None.
    """
    merge = kata_merge.Merge(runtime, release)
    path = base["path"]
    document = None
    if base["kind"] == "missing":
        merge.add("base_missing", path, base.get("reason") or "No such file or directory")
    elif base["kind"] == "loop":
        merge.add("base_missing", path, base.get("reason") or "Too many levels of symbolic links")
    elif base["kind"] == "regular":
        document = _read(merge, base, "base")
    elif base["kind"] == "unreadable":
        merge.add("base_unreadable", path, base.get("reason"))
        merge.unread = True
        merge.doubt(path, "its content is not known: %s" % base.get("reason"))
    else:
        merge.add("base_not_regular", path, "it is a %s" % base["kind"])
    if document is not None:
        (kata_merge.go_base if runtime == "go" else kata_merge.rs_file)(merge, document, path)
        kata_merge.check_sections(merge, document, path)
    base_hypervisors = sorted(merge.hypervisors)
    drop_ins = sorted(drop_ins, key=lambda source: name_bytes(source["name"]))
    if drop_ins and releases.drop_ins_supported(runtime, release) is False:
        merge.add("drop_ins_unsupported", path, "%s does not read config.d" % release)
        drop_ins = []
    for source in drop_ins:
        _apply(merge, source, base_hypervisors)
    name = None
    if document is not None:
        name = _finish(merge, document, path, files)
    fatal = [problem["code"] for problem in merge.problems if problem["code"] in FATAL]
    if merge.unread:
        may_change = OVERRIDABLE | {"wrong_type", "unknown_key"} if runtime == "rs" else OVERRIDABLE
        fatal = [code for code in fatal if code not in may_change]
    unknown = None if fatal or not merge.unsure else "; ".join(merge.unsure)
    if unknown:
        merge.add("configuration_unknown", path, unknown)
    return {
        "hypervisor": name,
        "hypervisors": sorted(merge.hypervisors),
        "values": dict(merge.hypervisors.get(name or "", {})),
        "sources": dict(merge.sources.get(name or "", {})),
        "document": dict(merge.others, hypervisor=merge.hypervisors),
        "problems": merge.problems,
        "refused": bool(fatal),
        "unknown": unknown,
    }


def _finish(merge: kata_merge.Merge, document: Data, path: str, files: Files) -> str | None:
    """Decode, select and validate what was merged; returns the hypervisor's name."""
    if merge.runtime == "rs":
        kata_merge.rs_decode(merge, path)
    elif releases.at_least(merge.release, "3.0.0") is False:
        aio = [table for table in merge.base_tables(document) if "block_device_aio" in table]
        if aio:
            merge.add("aio_ignored", path, "block_device_aio came with 3.0.0; this is %s" % merge.release)
    if not merge.hypervisors and merge.runtime == "go":
        merge.add("base_empty", path, "no [hypervisor.*] table")
    name = kata_merge.selected(merge, path)
    validate(merge, path, files)
    return name


def _apply(merge: kata_merge.Merge, source: Data, base_hypervisors: list[str]) -> None:
    broken = _entry_problem(source, merge.runtime)
    if broken:
        merge.add(broken[0], source["path"], broken[1])
        return
    if source["kind"] == "symlink" and source.get("target_kind") == "device":
        return
    document = _read(merge, source, "drop_in")
    if document is None:
        return
    kata_merge.check_sections(merge, document, source["path"])
    if stray_name(source["name"]):
        merge.add("drop_in_stray_name", source["path"], "it is read and applied: there is no filter on names")
    if merge.runtime == "go":
        kata_merge.go_drop_in(merge, document, source, base_hypervisors)
    else:
        kata_merge.rs_file(merge, document, source["path"])

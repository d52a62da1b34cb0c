# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading TOML, and both runtimes' rules for merging Kata's base file with its drop-ins. PRIVATE to kataops.aio.

The rules were measured with Kata's own loaders (Go 2.5.2 to 4.1.0, runtime-rs 3.20.0 to 4.1.0). Problem codes, with what the runtime does:

=========================== ================================================================================================================
``base_missing``            there is no base file at that place: every new sandbox fails
``base_unreadable``         the host could not read it (``detail`` says why): its content is unknown
``base_not_regular``        it is a folder, FIFO, socket or device: refused (a FIFO hangs the Go runtime)
``base_toml_invalid``       it is not TOML, or not UTF-8: refused
``base_empty``              it has no table of a hypervisor: refused for want of a kernel and an image
``several_hypervisors``     it has several: the Go runtime takes one at random
``unknown_hypervisor``      it has a table of a hypervisor that the Go runtime does not know: refused
``hypervisor_not_selected`` runtime-rs: ``runtime.hypervisor_name`` names no table of the file
``byte_order_mark``         a file begins with a byte order mark, which this release refuses (or may refuse: ``detail``)
``key_other_case``          a key of the base file is in other letter case: obeyed by Go, ignored by runtime-rs
``key_spelled_twice``       a key stands in several letter cases with different values: Go picks one at random (the value is ``None``)
``key_in_wrong_section``    a block device key stands outside of the hypervisor's table: silently ignored
``wrong_type``              a value has another type than the runtime wants: refused
``invalid_aio``             ``block_device_aio`` is none of io_uring, native, threads: refused
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
``key_not_in_release``      a key that this release of the Go runtime does not have yet: refused
``unknown_section``         a table that the runtime does not know: ignored
``section_other_case``      a table in other letter case (``[Hypervisor.qemu]``): silently ignored
``second_hypervisor``       Go: a drop-in names a hypervisor that the base file does not have: one of them is taken at random
``drop_ins_unsupported``    this release of the runtime does not read ``config.d``
=========================== ================================================================================================================

:data:`FATAL` are the codes with which the runtime refuses (or never finishes) the whole configuration.
"""

from __future__ import annotations

import copy
import functools
import re
import sys

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.plugin_utils._kata import merge as kata_merge
from ansible_collections.kataops.aio.plugins.plugin_utils._kata import releases

if sys.version_info >= (3, 11):
    import tomllib
else:
    try:
        import tomli as tomllib
    except ImportError:  # said where a document is parsed
        tomllib = None

FATAL = frozenset(
    (
        "base_missing",
        "base_not_regular",
        "base_toml_invalid",
        "base_empty",
        "unknown_hypervisor",
        "hypervisor_not_selected",
        "wrong_type",
        "invalid_aio",
        "path_not_absolute",
        "config_dir_not_a_folder",
        "drop_in_directory",
        "drop_in_fifo",
        "drop_in_not_regular",
        "drop_in_symlink",
        "drop_in_dangling",
        "drop_in_toml_invalid",
        "unknown_key_in_drop_in",
        "key_not_in_release",
        "second_hypervisor",
        "several_hypervisors",
    )
)


@functools.lru_cache(maxsize=32)
def _parsed(text):
    return tomllib.loads(text)


def parse(text, where):
    """A TOML text as a dictionary of the caller's own. One host's few texts are asked for again and again (by each runtime's rules), and parsed once.

    :arg where: the file it came from, for the message.
    :raises AioError: when it is not TOML, or Python is older than 3.11 and has no tomli.
    """
    if tomllib is None:
        raise AioError("the Python library tomli is missing on the controller", where=where, remedy="pip install tomli, for the Python that runs Ansible")
    try:
        return copy.deepcopy(_parsed(text))
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        words = str(error) or type(error).__name__
        line = re.search(r"line (\d+)", words)
        raise AioError(
            "this is not valid TOML: %s" % words,
            where="%s, line %s" % (where, line.group(1)) if line else where,
            expected="a TOML document",
            remedy="correct the file; Kata refuses to start any new sandbox with it",
        ) from error


def _read(source, runtime, release, problems, code):
    """The parsed text of a source, or ``None``; a byte order mark is judged by the runtime's rules."""
    text = source["text"]
    if text is None:
        unreadable = code.replace("toml_invalid", "unreadable")
        broken = (source.get("reason") or "").startswith("invalid UTF-8")
        problems.append(kata_merge.problem(code if broken else unreadable, source["path"], source.get("reason")))
        return None
    if text.startswith("\ufeff"):
        accepted = releases.byte_order_mark_accepted(runtime, release)
        if accepted is not True:
            detail = (
                "this release of the Go runtime refuses a byte order mark"
                if accepted is False
                else ("the Go runtime refuses a byte order mark up to 3.4.0 and takes it from 3.12.0; this release is not known to do either")
            )
            problems.append(kata_merge.problem("byte_order_mark", source["path"], detail))
            if accepted is False:
                return None
        text = text[1:]
    try:
        return parse(text, source["path"])
    except AioError as error:
        problems.append(kata_merge.problem(code, source["path"], str(error)))
        return None


def _entry_problem(source, runtime):
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
        if target == "missing":
            return "drop_in_dangling", "%s leads nowhere" % name
        if target == "directory":
            return "drop_in_directory", "%s leads to a folder" % name
        if target == "fifo":
            return "drop_in_fifo", "%s leads to a FIFO: the Go runtime waits for a writer for ever" % name
        if target == "device" and source.get("target") == "/dev/null":
            return None  # reads as an empty file
        return None if target in ("regular", "unreadable") else ("drop_in_not_regular", "%s leads to a %s" % (name, target))
    return None if kind in ("regular", "unreadable") else ("drop_in_not_regular", "%s is a %s" % (name, kind))


def stray_name(name):
    """Is this a name that people do not mean as a drop-in (and that both runtimes read all the same)?"""
    return not name.endswith(".toml") or name.startswith(".")


def effective(base, drop_ins=(), runtime="go", release=None):
    """Merge a base file and its drop-ins by a runtime's rules.

    :arg base: ``{path, text, kind, reason}``; ``text`` is ``None`` when it could not be read (``reason`` says why).
    :arg drop_ins: entries of ``config.d``: ``{name, path, kind, text, reason}`` and for symlinks ``target`` and ``target_kind``. Any order.
    :arg runtime: ``go`` or ``rs``.
    :arg release: Kata's release, or ``None``.
    :returns: ``{hypervisor, hypervisors, values, sources, document, problems, refused}``: the hypervisor's name (``None``: not to be told), all that
        there are, its effective values without defaults, the path of the file that each came from, the merged tables as a whole, what was found, and
        whether the runtime refuses the configuration (then the values are those of the parts that it would have taken).
    """
    merge = kata_merge.Merge(runtime, release)
    document = None
    if base["kind"] == "missing":
        merge.add("base_missing", base["path"], base.get("reason") or "No such file or directory")
    elif base["kind"] == "regular":
        document = _read(base, runtime, release, merge.problems, "base_toml_invalid")
    elif base["kind"] in ("unreadable", "loop"):
        merge.add("base_unreadable", base["path"], base.get("reason"))
    else:
        merge.add("base_not_regular", base["path"], "it is a %s" % base["kind"])
    if document is not None:
        (kata_merge.go_base if runtime == "go" else kata_merge.rs_base)(merge, document, base["path"])
        kata_merge.check_sections(merge, document, base["path"])
    base_hypervisors = sorted(merge.hypervisors)
    kata_merge.check_base(merge, document, base, base_hypervisors)
    supported = releases.drop_ins_supported(runtime, release)
    drop_ins = sorted(drop_ins, key=lambda source: source["name"].encode("utf-8", "surrogateescape"))
    if drop_ins and supported is False:
        merge.add("drop_ins_unsupported", base["path"], "%s does not read config.d" % release)
        drop_ins = []
    for source in drop_ins:
        _apply(merge, source, base_hypervisors)
    name = kata_merge.selected(merge, base)
    kata_merge.check_values(merge, name, base)
    return {
        "hypervisor": name,
        "hypervisors": sorted(merge.hypervisors),
        "values": dict(merge.hypervisors.get(name, {})),
        "sources": dict(merge.sources.get(name, {})),
        "document": dict(merge.others, hypervisor=merge.hypervisors),
        "problems": merge.problems,
        "refused": any(problem["code"] in FATAL or _certain_mark(problem, runtime, release) for problem in merge.problems),
    }


def _certain_mark(problem, runtime, release):
    return problem["code"] == "byte_order_mark" and releases.byte_order_mark_accepted(runtime, release) is False


def _apply(merge, source, base_hypervisors):
    broken = _entry_problem(source, merge.runtime)
    if broken:
        merge.add(broken[0], source["path"], broken[1])
        return
    if source["kind"] == "symlink" and source.get("target_kind") == "device":
        return
    document = _read(source, merge.runtime, merge.release, merge.problems, "drop_in_toml_invalid")
    if document is None:
        return
    kata_merge.check_sections(merge, document, source["path"])
    if stray_name(source["name"]):
        merge.add("drop_in_stray_name", source["path"], "it is read and applied: there is no filter on names")
    if merge.runtime == "go":
        kata_merge.go_drop_in(merge, document, source, base_hypervisors)
    else:
        kata_merge.rs_drop_in(merge, document, source)

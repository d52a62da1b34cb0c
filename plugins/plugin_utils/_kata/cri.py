# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Kata handlers that containerd's and CRI-O's configuration files define. Pure: texts in, handlers out. PRIVATE to kataops.aio.

containerd: configuration versions 1 (``plugins.cri``), 2 (``plugins."io.containerd.grpc.v1.cri"``), 3 and 4
(``plugins."io.containerd.cri.v1.runtime"``). Imports are read after the file that names them, breadth first, each once, and later files win
(``LoadConfig``/``resolveImports`` of containerd: a relative import belongs to its file's folder). containerd before 2.0 replaces a whole plugin table
where 2.0 and later merge it; which one runs cannot be seen from the files, so they are merged: a handler too many is seen at once, one too few would
go unnoticed.
CRI-O: ``crio.runtime.runtimes.<handler>`` of ``crio.conf``, then of its drop-in folder in the order of names; a later table of a handler replaces it.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.plugin_utils._kata import toml as kata_toml

CRI_PLUGINS = ("cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime")
KATA_TYPE = re.compile(r"io\.containerd\.kata[A-Za-z0-9_.-]*\.v2\Z")
_TEMPLATE_LINE = re.compile(r"\{\{(?:(?!\{\{).)*?\}\}|\{%(?:(?!\{%).)*?%\}")


def without_templates(text):
    """``(text, partly)``: a Go template's text without the lines that hold template actions, and whether there were any. Lines keep their number."""
    partly = False
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if "{{" in line and _TEMPLATE_LINE.search(line):
            lines[number] = ""
            partly = True
    return "\n".join(lines), partly


def read(text, where, template=False):
    """``(document, problems)`` of one file; the document is ``{}`` when it cannot be read."""
    problems = []
    if template or "{{" in text:
        text, partly = without_templates(text)
        if partly:
            problems.append({"code": "cri_template", "where": where, "detail": "lines with template actions were left out: partly read"})
    try:
        return kata_toml.parse(text.lstrip("\ufeff"), where), problems
    except AioError as error:
        problems.append({"code": "cri_toml_invalid", "where": where, "detail": str(error)})
        return {}, problems


def import_patterns(document, name):
    """The absolute paths and patterns that a containerd file imports; ``None`` when it does not say anything of imports."""
    imports = document.get("imports")
    if imports is None:
        return None
    found = []
    for item in imports if isinstance(imports, list) else []:
        if isinstance(item, str) and item and "\0" not in item:
            found.append(posixpath.normpath(item if item.startswith("/") else posixpath.join(posixpath.dirname(name), item)))
    return found


def _table(value, *keys):
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _text(value):
    return value if isinstance(value, str) and value else None


def merge(target, source):
    """Tables are merged, everything else is replaced."""
    for key, value in source.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            merge(target[key], value)
        else:
            target[key] = value
    return target


def containerd_runtimes(documents):
    """All runtimes of containerd documents in reading order: ``{handler: {runtime_type, runtime_path, config_path}}``."""
    merged = {}
    for document in documents:
        plugins = _table(document, "plugins")
        for plugin in CRI_PLUGINS:
            merge(merged, _copy(_table(plugins, plugin, "containerd", "runtimes")))
    found = {}
    for handler, table in merged.items():
        if isinstance(table, dict):
            found[handler] = {
                "runtime_type": _text(table.get("runtime_type")),
                "runtime_path": _text(table.get("runtime_path")),
                "config_path": _text(_table(table, "options").get("ConfigPath")),
            }
    return found


def crio_runtimes(documents):
    """All runtimes of CRI-O documents in reading order, in the shape of :func:`containerd_runtimes`."""
    merged = {}
    for document in documents:
        for handler, table in _table(document, "crio", "runtime", "runtimes").items():
            if isinstance(table, dict):
                merged[handler] = table
    return {
        handler: {
            "runtime_type": _text(table.get("runtime_type")),
            "runtime_path": _text(table.get("runtime_path")),
            "config_path": _text(table.get("runtime_config_path")),
        }
        for handler, table in merged.items()
    }


def is_kata(cri, runtime):
    """Is this a runtime of Kata, by its type, its shim or its configuration file?"""
    kind, path, config = (runtime[key] or "" for key in ("runtime_type", "runtime_path", "config_path"))
    shim = posixpath.basename(path)
    if cri == "crio":
        return kind == "vm" and (not shim.startswith("containerd-shim-") or "kata" in shim or "kata" in config)
    if KATA_TYPE.match(kind) or (kind.startswith("/") and "kata" in posixpath.basename(kind)):
        return True
    return shim.startswith("containerd-shim-kata") or ("kata" in config and kind.endswith(".v2") and "runc" not in kind)


def shim_name(runtime_type):
    """The file name that containerd derives from a runtime type: ``io.containerd.kata-qemu.v2`` → ``containerd-shim-kata-qemu-v2``."""
    parts = (runtime_type or "").split(".")
    return "containerd-shim-%s-%s" % (parts[-2], parts[-1]) if len(parts) > 2 else None


def matches(name, pattern):
    """Does a path match an import's pattern? ``*`` does not cross a ``/``."""
    names, patterns = name.split("/"), pattern.split("/")
    return len(names) == len(patterns) and all(fnmatch.fnmatchcase(part, wanted.replace("[^", "[!")) for part, wanted in zip(names, patterns))


def _copy(table):
    return {key: _copy(value) if isinstance(value, dict) else value for key, value in table.items()}

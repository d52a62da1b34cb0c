# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a configuration text might mean, found without a TOML parser. PRIVATE to kataops.aio.

The managed node has only Python 3.8's standard library, hence no TOML parser. These functions are generous on purpose: they take every string that
could be a path of interest, whatever way of writing TOML it stands in. The controller parses the same texts and decides; what was missed here costs
a second trip. All of them take time in proportion to the text: no pattern here may look at the rest of a text from each of its places.
"""

from __future__ import annotations

import posixpath
import re

MAX_HINTS = 1024  # paths that are taken of one text; what is beyond comes with a second trip
DEFAULT_QEMU = "/usr/bin/qemu-system-x86_64"  # Go's and runtime-rs' own default for a missing `path` (measured, all releases)

_QUOTED = {'"': re.compile(r'"((?:[^"\\]|\\.)*)"'), "'": re.compile(r"'([^']*)'")}
_QUOTE = re.compile("[\"']")
_HEADER = re.compile(r"^[ \t]*\[{1,2}([^\[\]]*)\]")
_PATH_KEY = re.compile(r"""(?ix) (?:^|[{,.\s]) ["']?path["']? \s* = \s* (?: "((?:[^"\\\n]|\\.)*)" | '([^'\n]*)' )""")
_SHIM_TYPE = re.compile(r"io\.containerd\.(kata[A-Za-z0-9_.-]{0,128}?)\.v2\b")
_CONF_FILE = r"""(?:^|[\s;&(])KATA_CONF_FILE=(?:"([^"\n]*)"|'([^'\n]*)'|([^\s;&|"']+))"""
_SHELL_BREAK = r"""[\s"';&|()=]+"""
_KATA = re.compile(r"(?im)^[ \t]*(?:\[{1,2}[ \t]*)?[\"']?hypervisor\b")


def strings(text):
    """Every quoted one-line string of a text, in order. The usual escapes are undone."""
    found = []
    for line in text.split("\n"):
        place, unclosed = 0, ""
        while True:
            quote = _QUOTE.search(line, place)
            if quote is None:
                break
            kind = quote.group()
            match = None if kind in unclosed else _QUOTED[kind].match(line, quote.start())
            if match is None:
                unclosed += kind if kind not in unclosed else ""  # no later one of its kind is closed either
                place = quote.end()
                continue
            value = match.group(1)
            found.append(value.replace('\\"', '"').replace("\\\\", "\\") if kind == '"' and "\\" in value else value)
            place = match.end()
    return found


def toml_paths(text, folder):
    """Paths and patterns that name a TOML file: absolute, those that are relative are taken to be below ``folder``."""
    found = {}
    for value in strings(text):
        if value.endswith((".toml", "/*")) and "\0" not in value and "${" not in value and len(value) <= 4096 and len(found) < MAX_HINTS:
            found[value if value.startswith("/") else posixpath.join(folder, value)] = None
    return list(found)


def shim_paths(text):
    """Absolute paths that could be a Kata shim or a wrapper of one."""
    found = {}
    for value in strings(text):
        name = posixpath.basename(value)
        named = ("containerd-shim" in name or "kata" in name) and not name.endswith(".toml")
        if named and value.startswith("/") and "\0" not in value and len(value) <= 4096 and len(found) < MAX_HINTS:
            found[value] = None
    return list(found)


def shim_names(text):
    """File names of the shims that containerd derives from a ``runtime_type`` such as ``io.containerd.kata-qemu.v2``."""
    return sorted({"containerd-shim-%s-v2" % kind.rsplit(".", 1)[-1] for kind in _SHIM_TYPE.findall(text)})


def looks_like_kata(text):
    """Could this be a configuration file of Kata?"""
    return _KATA.search(text) is not None


def qemu_paths(text):
    """Absolute paths that a Kata text could name as a QEMU binary. Values of ``path`` in tables of other hypervisors are left out."""
    found = {}
    header = ""
    for line in text.split("\n"):
        if line.lstrip().startswith("#"):
            continue
        match = _HEADER.match(line)
        if match:
            header = match.group(1).lower()
            if header.count(".") > 1:
                header = "hypervisor"  # a table below [hypervisor.qemu] has paths of other things
        named = None
        for match in _PATH_KEY.finditer(line):
            value = match.group(2) if match.group(1) is None else match.group(1)
            if named is None:  # once for each line, whatever it has of matches
                named = "qemu" in header or "qemu" in line.lower()
            # A table named after QEMU, or no table to be seen at all; a name that says QEMU is believed anywhere.
            if value.startswith("/") and (named or "hypervisor" not in header) and len(found) < MAX_HINTS:
                found[value] = None
    return list(found)


def wrapper(text):
    """What a shell wrapper of a shim does.

    :returns: ``{kata_conf_file, target, reason}``: the last ``KATA_CONF_FILE=`` that is plain text, and the last shim that it names.
    """
    result = {"kata_conf_file": None, "target": None, "reason": None}
    for line in text.split("\n"):
        if line.lstrip().startswith("#"):
            continue
        for match in re.finditer(_CONF_FILE, line):
            value = next(group for group in match.groups() if group is not None)
            if "$" in value or "`" in value or not value.startswith("/"):
                result["reason"] = "KATA_CONF_FILE is set to %r, which only the shell can tell" % value
            else:
                result["kata_conf_file"] = value
                result["reason"] = None
        for word in re.split(_SHELL_BREAK, line):
            if word.startswith("/") and "containerd-shim" in word:
                result["target"] = word
    return result


def versions_yaml_qemu(text):
    """``assets.hypervisor.qemu.version`` of Kata's ``versions.yaml`` by its indentation, without the leading ``v``; or ``None``."""
    stack = []
    for line in text.split("\n"):
        match = re.match(r"^( *)([A-Za-z0-9_.-]+):(.*)$", line)
        if not match:
            continue
        indent = len(match.group(1))
        stack = [level for level in stack if level[0] < indent] + [(indent, match.group(2))]
        if [name for _indent, name in stack] == ["assets", "hypervisor", "qemu", "version"]:
            version = re.match(r"""^["']?v?([0-9]+(?:\.[0-9]+)*(?:-rc[0-9]+)?)""", match.group(3).strip())
            return version.group(1) if version else None
    return None

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading TOML as the library of each Kata release does. Pure. PRIVATE to kataops.aio.

The Go runtime uses BurntSushi/toml: 1.2.0 in Kata 3.0.0, 1.2.1 from 3.3.0, 1.3.2 from 3.5.0, 1.5.0 from 3.21.0, 1.6.0 from 3.28.0. runtime-rs uses toml 0.5
up to 3.32.0 and toml 1.1.2 from 4.0.0 (``go.mod`` and ``Cargo.lock`` of the releases). What they take differs in :data:`DIALECTS`; the rest is TOML 1.0.
"""

from __future__ import annotations

import copy
import functools
import math
import re
import sys
import typing as t

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.plugin_utils._kata import releases

if sys.version_info >= (3, 11):
    import tomllib
else:
    try:
        import tomli as tomllib
    except ImportError:  # said where a document is parsed
        tomllib = None

#: What a runtime's library takes, and since which release; None: no release that we know refuses it, ``never``: none takes it.
DIALECTS: dict[str, dict[str, str | None]] = {
    "go": {"byte_order_mark": "3.5.0", "replacement_character": "3.21.0", "toml_1_1": "3.28.0"},
    "rs": {"byte_order_mark": None, "replacement_character": None, "toml_1_1": "4.0.0"},
}

Document = t.Dict[str, t.Any]


class Reading(t.NamedTuple):
    """What a runtime makes of a text: one of the three is not None.

    ``fault``: why it refuses the text, with the line. ``unsure``: why it cannot be told whether it does.
    """

    document: Document | None = None
    fault: str | None = None
    unsure: str | None = None


def takes(runtime: str, release: str | None, feature: str) -> bool | None:
    """Does a release take a feature of :data:`DIALECTS`? None where the release is not known."""
    since = DIALECTS[runtime][feature]
    return True if since is None else releases.at_least(release, since)


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value) and "inf" not in text:
        raise ValueError("%s is out of range for a float" % text)
    return value


def _check_integers(value: t.Any) -> None:
    if isinstance(value, dict):
        for inner in value.values():
            _check_integers(inner)
    elif isinstance(value, list):
        for inner in value:
            _check_integers(inner)
    elif type(value) is int and not -(2**63) <= value < 2**63:  # pylint: disable=unidiomatic-typecheck
        raise ValueError("%d is out of range for a 64 bit integer" % value)


@functools.lru_cache(maxsize=64)
def _parsed(text: str, newer: bool) -> Document | str:
    """The document of a text by TOML 1.0 or, with ``newer``, 1.1; or the words of the error. One host's few texts are asked for again and again."""
    if tomllib is None:
        raise AioError("the Python library tomli is missing on the controller", remedy="pip install tomli, for the Python that runs Ansible")
    try:
        older = as_toml_1_0(text) if newer or sys.version_info < (3, 11) else text  # tomli itself takes TOML 1.1, by its version
        if older != text and not newer:
            raise ValueError("this is TOML 1.1")
        document = tomllib.loads(older, parse_float=_float)
        _check_integers(document)
        return document
    except RecursionError:
        return "its tables or arrays are nested too deeply"
    except ValueError as error:  # tomllib's own error is one
        words = str(error)
        number = re.match(r"(-?\d+|\S+) is out of range", words)
        place = text.find(number.group(1)) if number else -1
        return words if place < 0 else "%s (at line %d)" % (words, text.count("\n", 0, place) + 1)


_TOKEN = re.compile(r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|#[^\n]*|[{}\[\],\n]|[^"\'#{}\[\],\n]+|.', re.S)
_ESCAPE = re.compile(r"\\(?:(e)|x([0-9a-fA-F]{2})|.)", re.S)
_TIME = re.compile(r"(?<![\w.:+-])((?:\d{4}-\d\d-\d\d[Tt ])?\d\d:\d\d)(?![:\d])")


def _escape(match: re.Match[str]) -> str:
    if match.group(1):
        return "\\u001b"
    return "\\u00" + match.group(2) if match.group(2) else match.group()


def as_toml_1_0(text: str) -> str:
    """A text with what only TOML 1.1 allows in the words of TOML 1.0; any other text comes back as it is.

    That is: a newline, a comment and a last comma in an inline table, ``\\e`` and ``\\xHH``, and a time without seconds. Lines keep their number outside of
    such a table.
    """
    parts: list[str] = []
    open_: list[str] = []  # the brackets that are open
    comma = -1  # where a comma stands that follows a value and that nothing has followed yet
    last = ""  # the last piece that counts
    newlines = 0  # those that an inline table swallowed
    for match in _TOKEN.finditer(text):
        piece = match.group()
        inline = bool(open_) and open_[-1] == "{"
        if piece in ("{", "["):
            open_.append(piece)
        elif piece in ("}", "]"):
            if inline and piece == "}" and comma >= 0:
                parts[comma] = ""
            if open_:
                open_.pop()
        elif piece == "\n":
            if inline:
                newlines += 1
                piece = " "
            elif newlines and not open_:
                piece, newlines = "\n" * (newlines + 1), 0
        elif piece[0] == "#":
            piece = "" if inline else piece
        elif piece[0] == '"':
            piece = _ESCAPE.sub(_escape, piece)
        elif piece[0] != "'":
            piece = _TIME.sub(r"\1:00", piece)
        if piece.strip() and piece[0] != "#":
            comma = len(parts) if piece == "," and inline and last not in ("{", ",") else -1
            last = piece
        parts.append(piece)
    return "".join(parts)


def parse(text: str, where: str) -> Document:
    """A TOML 1.0 text as a dictionary of the caller's own.

    :arg where: the file it came from, for the message.
    :raises AioError: when it is not TOML, or Python is older than 3.11 and has no tomli.
    """
    found = _parsed(text, False)
    if isinstance(found, dict):
        return copy.deepcopy(found)
    line = re.search(r"line (\d+)", found)
    raise AioError(
        "this is not valid TOML: %s" % found,
        where="%s, line %s" % (where, line.group(1)) if line else where,
        expected="a TOML document",
        remedy="correct the file; Kata refuses to start any new sandbox with it",
    )


def read(text: str, runtime: str, release: str | None) -> Reading:
    """What a runtime makes of the text of a file. The document is not the caller's own: it must not be changed."""
    if text.startswith("\ufeff"):
        taken = takes(runtime, release, "byte_order_mark")
        if taken is not True:
            words = "line 1: the file begins with a byte order mark, which the Go runtime refuses before %s" % DIALECTS[runtime]["byte_order_mark"]
            return Reading(fault=words) if taken is False else Reading(unsure=words)
        text = text[1:]
    place = text.find("\ufffd")
    if place >= 0 and takes(runtime, release, "replacement_character") is not True:
        line = text.count("\n", 0, place) + 1
        words = "line %d: the character U+FFFD, which the Go runtime refuses before %s" % (line, DIALECTS[runtime]["replacement_character"])
        return Reading(fault=words) if takes(runtime, release, "replacement_character") is False else Reading(unsure=words)
    found = _parsed(text, False)
    if isinstance(found, dict):
        return Reading(found)
    newer = takes(runtime, release, "toml_1_1")
    if newer is not False:
        other = _parsed(text, True)
        if newer and isinstance(other, str):
            found = other
        if isinstance(other, dict):
            return Reading(other) if newer else Reading(unsure="only TOML 1.1 allows this, and it is not known whether this release reads it: %s" % found)
    if runtime == "go" and newer is not True and _array_first(text, found):
        return Reading(unsure="a key stands twice, first as an array, which the Go runtime takes before 3.28.0: %s" % found)
    return Reading(fault="this is not valid TOML: %s" % found)


def _array_first(text: str, words: str) -> bool:
    """Is the error one of a key that stands twice, and is the value of its first line an array?"""
    line = re.search(r"Cannot (?:overwrite|mutate|redefine).*line (\d+)", words)
    if not line:
        return False
    lines = text.split("\n")
    key = lines[int(line.group(1)) - 1].split("=", 1)[0].strip(" \t\"'")
    return any(re.match(r"[\s\"']*%s[\s\"']*=\s*\[" % re.escape(key), each) for each in lines[: int(line.group(1)) - 1])


def line_of(text: str | None, key: str) -> str:
    """``line N: `` of the last line of a text that sets a key, as a prefix of a message; empty where none can be seen."""
    places = [match.start(1) for match in re.finditer(r"(?m)^[ \t]*(?:[\w.\"'\- \t]*\.[ \t]*)?[\"']?(%s)[\"']?[ \t]*=" % re.escape(key), text or "")]
    return "line %d: " % ((text or "").count("\n", 0, places[-1]) + 1) if places else ""

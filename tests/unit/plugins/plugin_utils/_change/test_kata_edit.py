# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lossless edits of base files: cases by hand, Kata's own files where they are at hand, and arbitrary TOML."""

from __future__ import annotations

import copy
import os
import string
from pathlib import Path

import pytest
import tomlkit
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.plugin_utils._change import edit
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.toml import parse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

AIO, CACHE_SET, DIRECT = "block_device_aio", "block_device_cache_set", "block_device_cache_direct"
NATIVE = {AIO: "native", CACHE_SET: True, DIRECT: True}


def both_ways(text, keys, runtimes=("go",), table="qemu"):
    """Set, set again, unset; the new text."""
    new, edits = edit.set_keys(text, table, keys, runtimes, "f")
    assert edit.set_keys(new, table, keys, runtimes, "f") == (new, [])
    assert edit.unset_keys(new, table, edits, "f") == text
    return new


# name, text before, keys, runtimes, text after
CASES = [
    (
        "changes the value and leaves its comment",
        '[hypervisor.qemu]\nblock_device_aio = "io_uring" # why\n',
        {AIO: "native"},
        ["go"],
        '[hypervisor.qemu]\nblock_device_aio = "native" # why\n',
    ),
    (
        "keeps blanks around the sign",
        "[hypervisor.qemu]\n  block_device_cache_set   =  false\n",
        {CACHE_SET: True},
        ["go"],
        "[hypervisor.qemu]\n  block_device_cache_set   =  true\n",
    ),
    (
        "goes right below the commented key",
        "[hypervisor.qemu]\npath = 'q'\n\n# Says what it does.\n# Default false\n#block_device_cache_set = true\n\nz = 1\n\n[runtime]\na = 1\n",
        {CACHE_SET: True},
        ["go"],
        "[hypervisor.qemu]\npath = 'q'\n\n# Says what it does.\n# Default false\n#block_device_cache_set = true\n"
        "block_device_cache_set = true\n\nz = 1\n\n[runtime]\na = 1\n",
    ),
    (
        "goes below the whole comment",
        "[hypervisor.qemu]\n# block_device_cache_set = true\n# (needs a restart of nothing)\n\nz = 1\n",
        {CACHE_SET: True},
        ["go"],
        "[hypervisor.qemu]\n# block_device_cache_set = true\n# (needs a restart of nothing)\nblock_device_cache_set = true\n\nz = 1\n",
    ),
    (
        "goes beside its relatives, not to the end of the file",
        '[hypervisor.qemu]\nblock_device_aio = "native"\nother = 1\n\n# About the runtime\n[runtime]\ndebug = true\n',
        {CACHE_SET: True},
        ["go"],
        '[hypervisor.qemu]\nblock_device_aio = "native"\nblock_device_cache_set = true\nother = 1\n\n# About the runtime\n[runtime]\ndebug = true\n',
    ),
    (
        "goes last in the table without relatives",
        "[hypervisor.qemu]\nb = 1\n\n\n[runtime]\n",
        {"x": 1},
        ["go"],
        "[hypervisor.qemu]\nb = 1\nx = 1\n\n\n[runtime]\n",
    ),
    ("an empty table", "[hypervisor.qemu]\n[runtime]\na=1\n", {"x": 1}, ["go"], "[hypervisor.qemu]\nx = 1\n[runtime]\na=1\n"),
    (
        "before a table below it",
        "[hypervisor.qemu]\nb = 1\n[hypervisor.qemu.factory]\nt = 1\n",
        {"x": 1},
        ["rs"],
        "[hypervisor.qemu]\nb = 1\nx = 1\n[hypervisor.qemu.factory]\nt = 1\n",
    ),
    (
        "the table comes last",
        "[runtime]\na = 1\n[hypervisor.qemu]\nb = 1\n",
        {"x": "y"},
        ["go"],
        '[runtime]\na = 1\n[hypervisor.qemu]\nb = 1\nx = "y"\n',
    ),
    ("no line end at the end", "[hypervisor.qemu]\nb = 1", {"x": 1}, ["go"], "[hypervisor.qemu]\nb = 1\nx = 1"),
    ("no line end after a comment at the end", "[hypervisor.qemu]\nb = 1\n#x = 2", {"x": 1}, ["go"], "[hypervisor.qemu]\nb = 1\n#x = 2\nx = 1"),
    ("CRLF", "[hypervisor.qemu]\r\nb = 1\r\n\r\n[runtime]\r\n", {"x": 1}, ["go"], "[hypervisor.qemu]\r\nb = 1\r\nx = 1\r\n\r\n[runtime]\r\n"),
    ("a byte order mark", "\ufeff[hypervisor.qemu]\nb = 1\n", {"x": 1}, ["go"], "\ufeff[hypervisor.qemu]\nb = 1\nx = 1\n"),
    ("a quoted table name", '[hypervisor."qemu"]\nb = 1\n', {"x": 1}, ["go"], '[hypervisor."qemu"]\nb = 1\nx = 1\n'),
    (
        "a dotted key that is there",
        'hypervisor.qemu.block_device_aio = "io_uring"\n',
        {AIO: "threads"},
        ["go"],
        'hypervisor.qemu.block_device_aio = "threads"\n',
    ),
    (
        "an inline table",
        "[hypervisor]\nqemu = { path = 'q', block_device_aio = 'io_uring' }\n",
        {AIO: "threads"},
        ["go"],
        "[hypervisor]\nqemu = { path = 'q', block_device_aio = \"threads\" }\n",
    ),
    ("nothing but a header", "[hypervisor.qemu]", {"x": 1, "y": 2}, ["go"], "[hypervisor.qemu]\nx = 1\ny = 2"),
    (
        "Go: another letter case",
        '[hypervisor.qemu]\nBlock_Device_AIO = "io_uring"\n',
        {AIO: "native"},
        ["go"],
        '[hypervisor.qemu]\nBlock_Device_AIO = "native"\n',
    ),
    (
        "Go: two spellings, of which it takes one at random",
        '[hypervisor.qemu]\nBLOCK_DEVICE_AIO = "threads"\nblock_device_aio = "io_uring"\n',
        {AIO: "native"},
        ["go"],
        '[hypervisor.qemu]\nBLOCK_DEVICE_AIO = "native"\nblock_device_aio = "native"\n',
    ),
    (
        "runtime-rs: another letter case does not count",
        '[hypervisor.qemu]\nBLOCK_DEVICE_AIO = "threads"\n',
        {AIO: "native"},
        ["rs"],
        '[hypervisor.qemu]\nBLOCK_DEVICE_AIO = "threads"\nblock_device_aio = "native"\n',
    ),
    (
        "both runtimes",
        '[hypervisor.qemu]\nBLOCK_DEVICE_AIO = "threads"\n',
        {AIO: "native"},
        ["go", "rs"],
        '[hypervisor.qemu]\nBLOCK_DEVICE_AIO = "native"\nblock_device_aio = "native"\n',
    ),
    (
        "a key of the same name elsewhere stays",
        '[runtime]\nblock_device_aio = "x"\n[hypervisor.qemu]\na = 1\n',
        {AIO: "native"},
        ["go"],
        '[runtime]\nblock_device_aio = "x"\n[hypervisor.qemu]\na = 1\nblock_device_aio = "native"\n',
    ),
    (
        "a text that looks like a table",
        "[hypervisor.qemu]\na = '''\n[runtime]\nx = 2\n'''\n",
        {"x": 1},
        ["go"],
        "[hypervisor.qemu]\na = '''\n[runtime]\nx = 2\n'''\nx = 1\n",
    ),
    ("a list over several lines", "[hypervisor.qemu]\na = [\n 1, # one\n 2,\n]\n", {"a": [3]}, ["go"], "[hypervisor.qemu]\na = [3]\n"),
    ("text with quotes", "[hypervisor.qemu]\na = 'x'\n", {"a": 'say "so"\\'}, ["go"], '[hypervisor.qemu]\na = "say \\"so\\"\\\\"\n'),
]


@pytest.mark.parametrize(("before", "keys", "runtimes", "after"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_case(before, keys, runtimes, after):
    assert both_ways(before, keys, runtimes) == after


def test_a_table_written_twice_over_is_one():
    text = "[hypervisor.clh]\na = 1\n[agent.kata]\nb = 1\n[hypervisor.qemu]\nc = 1\n[factory]\nd = 1\n[hypervisor.qemu.factory]\ne = 1\n"
    assert both_ways(text, {"x": 1}, ["rs"]) == text.replace("c = 1\n", "c = 1\nx = 1\n")


def test_type_counts():
    assert both_ways("[hypervisor.qemu]\na = 1\nb = 'true'\nc = 1.0\n", {"a": True, "b": True, "c": 1}) == "[hypervisor.qemu]\na = true\nb = true\nc = 1\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[hypervisor.clh]\na = 1\n", "no table \\[hypervisor.qemu\\]"),
        ("", "no table"),
        ("hypervisor = 1\n", "no table"),
        ("[hypervisor.qemu]\na = 1\na = 2\n", "not valid TOML"),
        ("[hypervisor.qemu]\na = 1\n[hypervisor.qemu]\n", "not valid TOML"),
        ("hypervisor.qemu.a = 1\n", "no header of its own"),
        ("[hypervisor]\nqemu = {path = 'q'}\n", "no header of its own"),
    ],
)
def test_refusals(text, words):
    with pytest.raises(AioError, match=words):
        edit.set_keys(text, "qemu", {"x": 1}, ["go"], "f")


def test_not_utf8():
    with pytest.raises(AioError, match=r"not UTF-8 \(byte 2\)"):
        edit.decode(b"# \xff\n", "f")


@pytest.mark.parametrize("value", [None, {"a": 1}, [None], object()])
def test_values_that_no_key_can_have(value):
    with pytest.raises(AioError, match="cannot be set"):
        edit.plain_value("x", value)


@pytest.mark.parametrize("key", ["", "a b", "a.b", "a]", "é"])
def test_keys_that_no_table_has(key):
    with pytest.raises(AioError, match="no key of a hypervisor"):
        edit.plain_value(key, 1)


def test_a_value_that_somebody_changed_since_is_left():
    text = "[hypervisor.qemu]\na = 1\nb = 1\n"
    new, edits = edit.set_keys(text, "qemu", {"a": 2, "c": 3}, ["go"], "f")
    theirs = new.replace("a = 2", "a = 9").replace("b = 1", "b = 5")
    assert edit.unset_keys(theirs, "qemu", edits, "f") == "[hypervisor.qemu]\na = 9\nb = 5\n"


def test_drop_in_is_stable_and_means_its_keys():
    text = edit.drop_in_text("qemu", dict(reversed(list(dict(NATIVE, path='/opt/q u\\o"te').items()))))
    assert text == edit.drop_in_text("qemu", dict(NATIVE, path='/opt/q u\\o"te'))
    assert parse(text, "f") == {"hypervisor": {"qemu": dict(NATIVE, path='/opt/q u\\o"te')}}
    assert text.startswith("# Written by") and "rollback" in text


# --- Kata's own files ---------------------------------------------------------------------------------------------------------------------------------

SHIPPED = Path(os.environ.get("KATAOPS_KATA_CONFIGS") or Path(__file__).parents[6] / "shared" / "kata-configs")
FILES = sorted(SHIPPED.glob("*/*/*.toml")) or [None]


@pytest.mark.parametrize("path", FILES, ids=lambda path: "/".join(path.parts[-3:]) if path else "none")
def test_shipped_file(path):
    if path is None:
        pytest.skip("Kata's configuration files are not at hand: set KATAOPS_KATA_CONFIGS to a folder <release>/<go|rs>/*.toml")
    text = edit.decode(path.read_bytes(), str(path))
    before = parse(text, str(path))
    for table in before["hypervisor"]:
        keys = dict(NATIVE, path="/opt/kataops/qemu/x/bin/qemu-system-x86_64")
        new = both_ways(text, keys, [path.parts[-2]], table)
        expected = copy.deepcopy(before)
        expected["hypervisor"][table].update(keys)
        assert parse(new, str(path)) == expected
        old_lines, new_lines = text.split("\n"), new.split("\n")
        assert len(new_lines) - len(old_lines) == len(set(keys) - set(before["hypervisor"][table]))
        untouched = [line for line in new_lines if line.split("=")[0].strip() not in keys]
        assert untouched == [line for line in old_lines if line.split("=")[0].strip() not in keys]


# --- arbitrary TOML -----------------------------------------------------------------------------------------------------------------------------------

NAMES = ["path", AIO, CACHE_SET, DIRECT, "x", "Block_Device_Aio", "long-name", "a1"]
BARE = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=8)
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="'\\\"", exclude_categories=("Cc", "Cs")), max_size=12)


@st.composite
def toml_values(draw, depth=2):
    kind = draw(
        st.sampled_from(["basic", "literal", "multi", "multi_literal", "int", "float", "bool", "date", "array", "inline"] if depth else ["basic", "int"])
    )
    words = draw(WORDS)
    if kind in ("array", "inline"):
        inner = draw(st.lists(toml_values(depth=depth - 1), max_size=3))
        if kind == "array":
            joint = draw(st.sampled_from([", ", ",", " ,\n  ", ", # c\n"]))
            tail = draw(st.sampled_from(["", " ", "\n"]))
            return "[" + draw(st.sampled_from(["", " ", "\n"])) + joint.join(inner) + tail + "]"
        inner = [value for value in inner if "\n" not in value]
        return "{" + ", ".join("k%d = %s" % pair for pair in enumerate(inner)) + "}"
    return {
        "basic": '"%s"' % words,
        "literal": "'%s'" % words,
        "multi": '"""\n%s\n[hypervisor.qemu]\n#x = 1\n"""' % words,
        "multi_literal": "'''%s\nx = 2'''" % words,
        "int": draw(st.sampled_from(["0", "-17", "0x1F", "1_000", "+3", "0b11"])),
        "float": draw(st.sampled_from(["1.0", "nan", "-inf", "6.6e-3"])),
        "bool": draw(st.sampled_from(["true", "false"])),
        "date": draw(st.sampled_from(["1979-05-27", "07:32:00", "1979-05-27T07:32:00Z"])),
    }[kind]


@st.composite
def rows(draw, names):
    """The lines of one table: keys (no two alike), comments (also of keys), blank lines."""
    lines, used = [], set()
    for _turn in range(draw(st.integers(0, 6))):
        kind = draw(st.sampled_from(["key", "key", "comment", "sample", "blank"]))
        indent = draw(st.sampled_from(["", "", "  ", "\t"]))
        if kind == "blank":
            lines.append(draw(st.sampled_from(["", "  "])))
        elif kind == "comment":
            lines.append(indent + "#" + draw(WORDS))
        elif kind == "sample":
            lines.append("%s#%s%s = 1" % (indent, draw(st.sampled_from(["", " "])), draw(st.sampled_from(NAMES))))
        else:
            name = draw(names)
            if name in used:
                continue
            used.add(name)
            key = draw(st.sampled_from([name, '"%s"' % name, "'%s'" % name]))
            comment = draw(st.sampled_from(["", " # c", "\t#x = 3"]))
            lines.append("%s%s%s%s%s" % (indent, key, draw(st.sampled_from([" = ", "=", "  =\t"])), draw(toml_values()), comment))
    return lines


@st.composite
def documents(draw):
    tables = draw(st.lists(st.sampled_from(["runtime", "agent.kata", "factory", "hypervisor.clh", "image"]), unique=True, max_size=4))
    blocks = [["[%s]" % name] + draw(rows(BARE)) for name in tables]
    header = draw(st.sampled_from(["[hypervisor.qemu]", '[hypervisor."qemu"]', "[ hypervisor . qemu ] # c"]))
    blocks.insert(draw(st.integers(0, len(blocks))), [header] + draw(rows(st.one_of(st.sampled_from(NAMES), BARE))))
    if draw(st.booleans()):
        blocks.insert(draw(st.integers(0, len(blocks))), ["[hypervisor.qemu.below]"] + draw(rows(BARE)))
    lines = draw(rows(st.sampled_from(["top1", "top2"]))) + [line for block in blocks for line in block]
    text = "\n".join(lines) + draw(st.sampled_from(["\n", "", "\n\n"]))
    if draw(st.booleans()):
        text = text.replace("\n", "\r\n")
    return draw(st.sampled_from(["", "", "\ufeff"])) + text


def survives(text):
    """False for the few texts that the library itself writes otherwise than it read them: ``[1979-05-27 ]`` loses its blank in tomlkit 0.15."""
    text += "" if text.endswith("\n") else "\r\n" if "\r\n" in text else "\n"
    return tomlkit.dumps(tomlkit.parse(text)) == text


OWNED = st.dictionaries(
    st.one_of(st.sampled_from(NAMES[:5]), st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)),
    st.one_of(st.booleans(), st.integers(-5, 5), WORDS, st.lists(WORDS, max_size=2)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(documents(), OWNED, st.sampled_from([["go"], ["rs"], ["go", "rs"], [None]]))
def test_nothing_but_the_owned_keys_changes(text, keys, runtimes):
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    before = parse(text[len(mark) :], "f")  # the generator makes valid TOML only
    if isinstance(before["hypervisor"]["qemu"].get("below"), dict) and "below" in keys:
        return
    if not survives(text[len(mark) :]):
        with pytest.raises(AioError, match="its layout would not survive"):
            both_ways(text, keys, runtimes)
        return
    new = both_ways(text, keys, runtimes)
    after = parse(new[len(mark) :], "f")
    table, was = after["hypervisor"].pop("qemu"), before["hypervisor"].pop("qemu")
    assert repr(after) == repr(before)
    folded = {key.casefold() for key in keys}
    for key, value in keys.items():
        seen = [name for name in table if name == key] if runtimes == ["rs"] else [name for name in table if name.casefold() == key.casefold()]
        assert seen and all(table[name] == value and type(table[name]) is type(value) for name in seen if name in keys or len(folded) == len(keys))
    others = {name: value for name, value in was.items() if (name not in keys if runtimes == ["rs"] else name.casefold() not in folded)}
    assert repr({name: table[name] for name in others}) == repr(others)
    assert set(table) <= set(was) | set(keys)

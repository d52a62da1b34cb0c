# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of keys against the list beside the project, and every key of every release against the rules for types and unknown keys."""

from __future__ import annotations

import json

import pytest
from ansible_collections.kataops.aio.plugins.plugin_utils._kata import keys, values
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.effective import effective
from ansible_collections.kataops.aio.tests.unit.plugins.plugin_utils._kata import corpus

RELEASES = ("3.0.0", "3.2.0", "3.4.0", "3.12.0", "3.20.0", "3.21.0", "3.24.0", "3.28.0", "3.29.0", "3.30.0", "3.32.0", "4.0.0", "4.1.0")
WHOLE = 'kernel = "/k"\nimage = "/i"\nvirtio_fs_daemon = "/d"\n'
REST = '[agent.kata]\ncontainer_pipe_size = 0\n[runtime]\nhypervisor_name = "qemu"\n[factory]\n'
LIST = corpus.CASES / "keys.json"
SAME = {"config.PCIePort": "string", "govmmQemu.MonitorProtocol": "string"}
SECTIONS = {
    "go": {"guestExtensionImage": "guest_extension_images"},
    "rs": {"Agent": "agent", "Runtime": "runtime", "Factory": "factory", "MemAgent": "mem_agent", "RootlessUser": "rootless_user"},
}


def listed():
    """``(runtime, section, key) → [(first, last, type)]`` of the list, with what serde flattens in its parent."""
    found = {}
    data = json.loads(LIST.read_text(encoding="utf-8"))
    flat = {"Hypervisor"} | {json.loads(row["type"])["type"] for rows in data["rs"]["Hypervisor"].values() for row in rows if "flatten" in row["type"]}
    for runtime in ("go", "rs"):
        for struct, rows in data[runtime].items():
            section = "hypervisor" if struct in flat else SECTIONS[runtime].get(struct, struct)
            for key, spans in rows.items():
                if section in keys.GO or section in keys.RS:
                    found.setdefault((runtime, section, key), []).extend((s["first"], s["last"], s["type"]) for s in spans if "flatten" not in s["type"])
    return data["releases"], {key: spans for key, spans in found.items() if spans}


@pytest.mark.skipif(not LIST.exists(), reason="no list of keys beside the project")
def test_every_key_of_every_release_is_in_the_tables():
    releases, wanted = listed()
    for (runtime, section, key), spans in wanted.items():
        for number, release in enumerate(releases[runtime]):
            span = [s for s in spans if releases[runtime].index(s[0]) <= number <= releases[runtime].index(s[1])]
            known = keys.lookup(runtime, section, key, "4.1.0" if release == "HEAD" else release)
            if known.name != key:
                continue  # another spelling, which the list has with the key
            assert known.has is bool(span), (runtime, section, key, release)
            kind = span[0][2] if span else ""
            kind = json.loads(kind)["type"] if kind.startswith("{") else SAME.get(kind, kind)
            assert not span or plain(known.type) == plain(kind), (runtime, section, key, release)
    ours = {(runtime, s, key) for runtime, table in (("go", keys.GO), ("rs", keys.RS)) for s in table for key in keys.table(runtime, s)}
    spellings = {("rs", "mem_agent", "mem_agent_enable")}
    assert {each for each in ours - set(wanted) - spellings if each[1] not in ("shared_mounts", "guest_extension_images")} == set()


def plain(kind):
    """A type without the difference between the name of a structure and that of its table."""
    return kind.lower().replace("_", "").replace("images", "image").replace("mounts", "mount")


def rows(runtime, section):
    first = 1 if runtime == "rs" else 0  # runtime-rs 3.0 has no plug-in for QEMU
    return [(section, key, release) for key in keys.table(runtime, section) for release in RELEASES[first:]]


def toml(value):
    return json.dumps(value) if not isinstance(value, dict) else "{}"


def wrong(kind):
    """Values that are not of a type."""
    if kind.startswith(("Vec<", "[]")):
        return [1, "x", True]
    if kind in ("string", "String", "Option<String>", "HugePageType"):
        return [1, True, ["x"]]
    if kind in ("bool", "Option<bool>"):
        return [1, "true", ["x"]]
    if kind in ("float32", "f32"):
        return ["1", True, ["x"]]
    low, high = values.RANGES.get(kind.replace("Option<", "").rstrip(">").lstrip("*"), (None, None))
    if low is None:
        return [1, "x"]
    beyond = [low - 1] if low > -(2**63) else []
    return ["1", True, 1.5, *beyond, *([high + 1] if high < 2**63 - 1 else [])]


def read(runtime, release, section, key, value, drop_in):
    """What is said of one key with a value, in the base file or in a drop-in."""
    table = {"hypervisor": "hypervisor.qemu", "agent": "agent.kata"}.get(section, section)
    line = "%s = %s\n" % (key, toml(value))
    skip = {each for each in ("kernel", "image", "virtio_fs_daemon", "container_pipe_size", "hypervisor_name") if each == key and not drop_in}
    text = "[hypervisor.qemu]\n" + WHOLE + REST
    text = "\n".join(each for each in text.split("\n") if each.split(" =")[0] not in skip)
    if not drop_in:
        text = text.replace("[%s]\n" % table, "[%s]\n%s" % (table, line), 1)
    base = {"path": "/k/c.toml", "text": text, "kind": "regular", "reason": None}
    source = {"name": "a.toml", "path": "/k/config.d/a.toml", "text": "[%s]\n%s" % (table, line), "kind": "regular", "reason": None}
    return effective(base, [source] if drop_in else [], runtime, release)


@pytest.mark.parametrize("drop_in", [False, True], ids=["base", "drop-in"])
@pytest.mark.parametrize(
    "runtime, section", [("go", s) for s in ("hypervisor", "agent", "runtime", "factory")] + [("rs", s) for s in ("hypervisor", "agent", "runtime")]
)
def test_a_wrong_type_of_any_known_key_is_refused_and_an_unknown_key_as_that_runtime_does(runtime, section, drop_in):
    for _section, key, release in rows(runtime, section):
        known = keys.lookup(runtime, section, key, release)
        if known.has:
            for value in wrong(known.type):
                result = read(runtime, release, section, key, value, drop_in)
                assert "wrong_type" in [problem["code"] for problem in result["problems"]], (key, release, value)
                assert result["refused"]
            continue
        result = read(runtime, release, section, key, "x", drop_in)
        codes = {problem["code"] for problem in result["problems"]}
        if runtime == "go" and drop_in and section in ("hypervisor", "agent"):
            assert codes == {"key_not_in_release"} and result["refused"], (key, release)
        elif runtime == "rs" and keys.strict(section, release):
            assert codes == {"unknown_key"} and result["refused"], (key, release)
        else:
            assert not result["refused"] and codes <= {"aio_ignored"}, (key, release, result["problems"])
            assert key not in result["values"]


@pytest.mark.parametrize(
    "runtime, kind, value, taken",
    [
        ("go", "uint64", -1, True),  # it wraps
        ("go", "uint32", -1, False),
        ("go", "float32", 1, True),
        ("go", "float32", 2**24, False),
        ("go", "float32", float("inf"), False),
        ("go", "float32", float("nan"), True),
        ("go", "[]string", [], True),
        ("go", "[]string", ["a", 1], False),
        ("rs", "u64", -1, False),
        ("rs", "f32", 2**40, True),
        ("rs", "f32", float("inf"), True),
        ("rs", "i32", 1.0, False),
        ("rs", "Option<u8>", 256, False),
        ("rs", "HugePageType", "thp", True),
        ("rs", "HugePageType", "x", False),
    ],
)
def test_values_at_the_edge_of_a_type(runtime, kind, value, taken):
    assert (values.fault(runtime, "4.1.0", kind, value) is None) is taken


def test_letter_case_is_gos_own():
    assert values.fold("Shared_F\u017f") == "shared_fs" and values.fold("\u212aernel") == "kernel"  # strings.EqualFold
    assert values.fold("rootle\u00df") != "rootless" and values.fold("\ufb01rmware") != "firmware"

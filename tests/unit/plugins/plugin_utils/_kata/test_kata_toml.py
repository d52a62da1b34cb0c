# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Both runtimes' merge rules, case by case as they were measured with Kata's own loaders, and against an independent model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.plugin_utils._kata import discover as _discover
from ansible_collections.kataops.aio.plugins.plugin_utils._kata import effective as _kata_toml
from ansible_collections.kataops.aio.plugins.plugin_utils._kata import merge as _kata_merge
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.effective import FATAL, effective
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.toml import parse
from hypothesis import given, settings
from hypothesis import strategies as st

WHOLE = 'kernel = "/k"\nimage = "/i"\nvirtio_fs_daemon = "/d"\n'  # without these the runtimes refuse a table
BASE = (
    '[hypervisor.qemu]\n%spath = "/opt/kata/bin/qemu-system-x86_64"\nblock_device_aio = "io_uring"\n[agent.kata]\n[runtime]\nhypervisor_name = "qemu"\n'
) % WHOLE
AIO = '[hypervisor.qemu]\nblock_device_aio = "%s"\n'


def base(text=BASE, **more):
    return dict({"path": "/k/configuration-qemu.toml", "text": text, "kind": "regular", "reason": None}, **more)


def entry(name, text=None, kind="regular", **more):
    return dict({"name": name, "path": "/k/config.d/" + name, "kind": kind, "text": text, "reason": None}, **more)


def outcome(drop_ins, runtime, release="3.20.0", text=BASE):
    result = effective(base(text), drop_ins, runtime, release)
    return result["values"].get("block_device_aio"), sorted({problem["code"] for problem in result["problems"]}), result["refused"]


# (case, drop-ins, Go: (aio, codes, refused), runtime-rs: the same)
CASES = (
    [
        ("no drop-in", [], ("io_uring", [], False), ("io_uring", [], False)),
        ("empty file", [entry("a.toml", "")], ("io_uring", [], False), ("io_uring", [], False)),
        ("only a comment", [entry("a.toml", "# x\n")], ("io_uring", [], False), ("io_uring", [], False)),
        ("one file", [entry("a.toml", AIO % "native")], ("native", [], False), ("native", [], False)),
        (
            "byte order: 9 after 10",
            [entry("9.toml", AIO % "native"), entry("10.toml", AIO % "threads")],
            ("native", [], False),
            ("native", [], False),
        ),
        ("byte order: a after Z", [entry("a.toml", AIO % "native"), entry("Z.toml", AIO % "threads")], ("native", [], False), ("native", [], False)),
        (
            "byte order: UTF-8",
            [entry("\ufb01.toml", AIO % "threads"), entry("\U0001f600.toml", AIO % "native")],
            ("native", [], False),
            ("native", [], False),
        ),
    ]
    + [
        (
            "no suffix filter: " + name,
            [entry(name, AIO % "native")],
            ("native", ["drop_in_stray_name"], False),
            ("native", ["drop_in_stray_name"], False),
        )
        for name in ("plain", "x.toml.bak", "x.toml~", ".hidden", ".hidden.toml", "README.md", "x.toml.rpmsave")
    ]
    + [
        (case, [entry("a.toml", text)], ("io_uring", ["drop_in_toml_invalid"], True), ("io_uring", ["drop_in_toml_invalid"], True))
        for case, text in (
            ("prose", "Put your files here.\n"),
            ("broken", "[hypervisor.qemu\n"),
            ("duplicate key", AIO % "native" + 'block_device_aio = "threads"\n'),
            ("NUL", "a = 1 # \0\n"),
        )
    ]
    + [
        (
            "invalid UTF-8",
            [entry("a.toml", None, reason="invalid UTF-8 at byte 3")],
            ("io_uring", ["drop_in_toml_invalid"], True),
            ("io_uring", ["drop_in_toml_invalid"], True),
        ),
        (
            "unreadable",
            [entry("a.toml", None, kind="unreadable", reason="Permission denied")],
            ("io_uring", ["configuration_unknown", "drop_in_unreadable"], False),
            ("io_uring", ["configuration_unknown", "drop_in_unreadable"], False),
        ),
        (
            "wrong type",
            [entry("a.toml", "[hypervisor.qemu]\nblock_device_aio = 1\n")],
            ("io_uring", ["wrong_type"], True),
            (None, ["wrong_type"], True),
        ),
        (
            "wrong type of a boolean",
            [entry("a.toml", '[hypervisor.qemu]\nblock_device_cache_set = "true"\n')],
            ("io_uring", ["wrong_type"], True),
            ("io_uring", ["wrong_type"], True),
        ),
        (
            "hypervisor is not a table",
            [entry("a.toml", "hypervisor = 1\n")],
            ("io_uring", ["unknown_section"], False),
            (None, ["hypervisor_not_selected", "wrong_type"], True),
        ),
        ("sub-folder", [entry("d", kind="directory")], ("io_uring", ["drop_in_directory"], True), ("io_uring", ["drop_in_directory"], True)),
        (
            "..data of Kubernetes",
            [entry("..data", kind="symlink", target="/k/config.d/..x", target_kind="directory")],
            ("io_uring", ["drop_in_directory"], True),
            ("io_uring", ["drop_in_symlink"], True),
        ),
        (
            "symlink to a good file",
            [entry("a.toml", AIO % "native", kind="symlink", target="/k/x", target_kind="regular")],
            ("native", [], False),
            ("io_uring", ["drop_in_symlink"], True),
        ),
        (
            "dangling symlink",
            [entry("a.toml", kind="symlink", target=None, target_kind="missing")],
            ("io_uring", ["drop_in_dangling"], True),
            ("io_uring", ["drop_in_symlink"], True),
        ),
        (
            "symlink to /dev/null",
            [entry("a.toml", kind="symlink", target="/dev/null", target_kind="device")],
            ("io_uring", [], False),
            ("io_uring", ["drop_in_symlink"], True),
        ),
        ("FIFO", [entry("p", kind="fifo")], ("io_uring", ["drop_in_fifo"], True), ("io_uring", ["drop_in_fifo"], True)),
        ("socket", [entry("s", kind="socket")], ("io_uring", ["drop_in_not_regular"], True), ("io_uring", ["drop_in_not_regular"], True)),
        (
            "unknown key",
            [entry("a.toml", "[hypervisor.qemu]\nblock_device_aoi = 'native'\n")],
            ("io_uring", ["unknown_key_in_drop_in"], True),
            ("io_uring", [], False),
        ),
        (
            "unknown key of the agent",
            [entry("a.toml", "[agent.kata]\nmade_up = 1\n")],
            ("io_uring", ["unknown_key_in_drop_in"], True),
            ("io_uring", [], False),
        ),
        ("unknown section", [entry("a.toml", "[made.up]\nx = 1\n")], ("io_uring", ["unknown_section"], False), ("io_uring", [], False)),
        (
            "section in other case",
            [entry("a.toml", '[Hypervisor.Qemu]\nblock_device_aio = "native"\n')],
            ("io_uring", ["section_other_case"], False),
            ("io_uring", ["section_other_case"], False),
        ),
        (
            "key in other case",
            [entry("a.toml", '[hypervisor.qemu]\nBLOCK_DEVICE_AIO = "native"\n')],
            ("io_uring", ["unknown_key_in_drop_in"], True),
            ("io_uring", ["key_other_case"], False),
        ),
        ("dotted key", [entry("a.toml", 'hypervisor.qemu.block_device_aio = "native"\n')], ("native", [], False), ("native", [], False)),
        (
            "inline table",
            [entry("a.toml", 'hypervisor = { qemu = { block_device_aio = "native" } }\n')],
            ("native", [], False),
            ("native", [], False),
        ),
        (
            "single quotes, CRLF",
            [entry("a.toml", "[hypervisor.\"qemu\"]\r\nblock_device_aio = 'native'\r\n")],
            ("native", [], False),
            ("native", [], False),
        ),
        (
            "another hypervisor",
            [entry("a.toml", '[hypervisor.clh]\npath = "/x"\n')],
            (None, ["invalid_value", "second_hypervisor", "several_hypervisors"], True),  # it has no image
            ("io_uring", ["unknown_hypervisor"], True),  # 3.20's name is cloud-hypervisor
        ),
        (
            "another hypervisor that is complete",
            [entry("a.toml", '[hypervisor.clh]\npath = "/x"\n%s[hypervisor.cloud-hypervisor]\n' % WHOLE)],
            (None, ["configuration_unknown", "second_hypervisor", "several_hypervisors"], False),
            ("io_uring", ["incomplete_hypervisor", "unknown_hypervisor"], True),
        ),
        (
            "another hypervisor, empty table",
            [entry("a.toml", "[hypervisor.dragonball]\n")],
            ("io_uring", [], False),
            ("io_uring", ["incomplete_hypervisor"], True),
        ),
        ("aio bogus", [entry("a.toml", AIO % "bogus")], ("bogus", ["invalid_aio"], True), ("bogus", ["invalid_aio"], True)),
        ("aio THREADS", [entry("a.toml", AIO % "THREADS")], ("THREADS", ["invalid_aio"], True), ("THREADS", ["invalid_aio"], True)),
        ("aio with a space", [entry("a.toml", AIO % " threads")], (" threads", ["invalid_aio"], True), (" threads", ["invalid_aio"], True)),
        ("aio empty", [entry("a.toml", AIO % "")], ("", [], False), ("", [], False)),
        (
            "key in [runtime]",
            [entry("a.toml", '[runtime]\nblock_device_aio = "native"\n')],
            ("io_uring", ["key_in_wrong_section"], False),
            ("io_uring", ["key_in_wrong_section"], False),
        ),
        (
            "a good file after a broken one",
            [entry("a.toml", "x x"), entry("b.toml", AIO % "native")],
            ("native", ["drop_in_toml_invalid"], True),
            ("native", ["drop_in_toml_invalid"], True),
        ),
    ]
)


@pytest.mark.parametrize("runtime", ["go", "rs"])
@pytest.mark.parametrize("case, drop_ins, go, rs", CASES, ids=[case[0] for case in CASES])
def test_measured_cases(case, drop_ins, go, rs, runtime):
    assert outcome(drop_ins, runtime) == (go if runtime == "go" else rs)


@pytest.mark.parametrize(
    "runtime, release, aio, codes, refused",
    [
        ("go", "3.0.0", "io_uring", ["drop_in_toml_invalid"], True),
        ("go", "3.4.0", "io_uring", ["drop_in_toml_invalid"], True),
        ("go", "3.5.0", "native", [], False),
        ("go", None, "io_uring", ["configuration_unknown"], False),
        ("rs", "3.20.0", "native", [], False),
    ],
)
def test_byte_order_mark(runtime, release, aio, codes, refused):
    assert outcome([entry("a.toml", "\ufeff" + AIO % "native")], runtime, release) == (aio, codes, refused)


@pytest.mark.parametrize(
    "release, codes",
    [("2.5.2", ["aio_ignored", "key_not_in_release"]), ("1.12.1", ["aio_ignored", "drop_ins_unsupported"]), ("3.0.0", []), (None, [])],
)
def test_before_the_key_and_before_drop_ins(release, codes):
    aio, found, refused = outcome([entry("a.toml", AIO % "native")], "go", release)
    assert found == codes
    assert refused is ("key_not_in_release" in codes)
    assert aio == (None if codes else "native")  # a release without the key reads no value of it


def test_kata_2_5_ignores_even_nonsense_in_the_base_file():
    assert outcome([], "go", "2.5.2", AIO % "bogus" + WHOLE) == (None, ["aio_ignored"], False)


def test_a_release_newer_than_known_may_have_keys_that_we_do_not_know():
    drop_in = [entry("a.toml", "[hypervisor.qemu]\nbrand_new = 1\nBLOCK_DEVICE_AIO = 'native'\n")]
    result = effective(base(), drop_in, "go", "9.0.0")
    assert [problem["detail"] for problem in result["problems"]][:1] == ["line 3: hypervisor.qemu.BLOCK_DEVICE_AIO; expected: in lower case"]
    assert result["refused"]


@pytest.mark.parametrize(
    "text, runtime, aio, codes, refused",
    [
        ('[hypervisor.qemu]\nBLOCK_DEVICE_AIO = "native"\n', "go", "native", ["key_other_case"], False),
        ('[hypervisor.qemu]\nBLOCK_DEVICE_AIO = "native"\nblock_device_aio = "threads"\n', "go", None, ["configuration_unknown", "key_spelled_twice"], False),
        ('[hypervisor.qemu]\nBLOCK_DEVICE_AIO = "native"\nblock_device_aio = "native"\n', "go", "native", ["key_other_case"], False),
        ('[Hypervisor.qemu]\nblock_device_aio = "native"\n', "go", "native", [], False),
        ('[hypervisor.Qemu]\nblock_device_aio = "native"\n', "go", "native", ["unknown_hypervisor"], True),
        ('[hypervisor.qemu]\nmade_up = "x"\nblock_device_aio = "native"\n', "go", "native", [], False),
        ('[hypervisor.qemu]\n[runtime]\nblock_device_aio = "native"\n', "go", None, ["key_in_wrong_section"], False),
        ("[hypervisor.qemu]\n[agent.kata]\nblock_device_cache_set = true\n", "rs", None, ["hypervisor_not_selected", "key_in_wrong_section"], False),
        ("[hypervisor.qemu]\nblock_device_aio = 1\n", "go", None, ["wrong_type"], True),
        ("[hypervisor.qemu]\n[hypervisor.qemu]\n", "go", None, ["base_toml_invalid"], True),
        ("", "go", None, ["base_empty"], True),
        ("[hypervisor.qemu]\n[hypervisor.clh]\n" + WHOLE, "go", None, ["configuration_unknown", "several_hypervisors"], False),
        ("[hypervisor.qemu]\n[hypervisor.clh]\n", "go", None, ["invalid_value", "several_hypervisors"], True),
        ('[hypervisor.qemu]\npath = "PLACEHOLDER_FOR_DISTRO"\n', "go", None, ["path_not_absolute"], True),
        ('[hypervisor.qemu]\npath = ""\n', "go", None, [], False),
        ('[hypervisor.qemu]\nBLOCK_DEVICE_AIO = "native"\n[runtime]\nhypervisor_name = "qemu"\n', "rs", "native", ["key_other_case"], False),
        ('[hypervisor.qemu]\nblock_device_aio = "bogus"\ndisable_block_device_use = true\n[runtime]\nhypervisor_name = "qemu"\n', "rs", "bogus", [], False),
        ('[hypervisor.qemu]\nblock_device_aio = "bogus"\ndisable_block_device_use = true\n', "go", "bogus", ["invalid_aio"], True),
        (
            '[hypervisor.qemu]\nblock_device_aio = "native"\n[hypervisor.dragonball]\n[runtime]\nhypervisor_name = "qemu"\n',
            "rs",
            "native",
            ["incomplete_hypervisor"],
            True,
        ),
        ('[hypervisor.qemu]\n[runtime]\nhypervisor_name = "fc"\n', "rs", None, ["hypervisor_not_selected"], False),
        ('[hypervisor.qemu]\n[runtime]\nhypervisor_name = ["qemu"]\n', "rs", None, ["hypervisor_not_selected", "wrong_type"], True),
    ],
)
def test_base_file(text, runtime, aio, codes, refused):
    got = outcome([], runtime, "3.20.0", text.replace("emu]\n", "emu]\n" + WHOLE, 1))
    if runtime == "rs" and "key_other_case" in codes:
        aio = None  # runtime-rs does not read it
    assert got == (aio, codes, refused)


@pytest.mark.parametrize(
    "kind, code",
    [
        ("missing", "base_missing"),
        ("directory", "base_not_regular"),
        ("fifo", "base_not_regular"),
        ("loop", "base_missing"),
    ],
)
def test_base_that_is_no_file(kind, code):
    result = effective(base(None, kind=kind, reason="because"))
    assert [problem["code"] for problem in result["problems"]] == [code]
    assert (result["hypervisor"], result["values"]) == (None, {})


def test_arrays_are_replaced_and_sources_are_told():
    text = BASE.replace("[agent", 'enable_annotations = ["a", "b"]\n[agent')
    drop_in = entry("a.toml", '[hypervisor.qemu]\nenable_annotations = ["c"]\n[runtime]\nx = 1\n')
    for runtime in ("go", "rs"):
        result = effective(base(text), [drop_in], runtime, "3.20.0")
        assert result["values"]["enable_annotations"] == ["c"]
        assert {key: path for key, path in result["sources"].items() if key not in ("kernel", "image", "virtio_fs_daemon")} == {
            "path": "/k/configuration-qemu.toml",
            "block_device_aio": "/k/configuration-qemu.toml",
            "enable_annotations": "/k/config.d/a.toml",
        }
        assert result["document"]["runtime"] == {"hypervisor_name": "qemu", "x": 1}


def test_bad_toml_is_one_clear_error():
    with pytest.raises(AioError) as caught:
        parse('a = 1\nb = "x\n', "/k/c.toml")
    assert str(caught.value).startswith("/k/c.toml, line 2: this is not valid TOML: ")


def test_every_code_is_listed_once():
    """Codes are rule keys: the docstring's table, the code and FATAL must name the same ones."""
    for module in (_kata_toml, _discover):
        listed = re.findall(r"^``([a-z_]+)``\s", module.__doc__, re.M)
        assert len(listed) == len(set(listed))
        if module is _kata_toml:
            assert set(listed) >= FATAL
            source = "".join(Path(part.__file__).read_text(encoding="utf-8").split('"""', 2)[2] for part in (_kata_toml, _kata_merge))
            used = set(re.findall(r'(?:add\(|return |else \(|problem\()"([a-z]+_[a-z_]+)"', source))
            assert used <= set(listed), used - set(listed)


# --- an independent model: what the measured table says, written another way -------------------------------------------------------------------

KEYS = {
    "block_device_aio": ["native", "threads", "io_uring"],
    "path": ["/a", "/b"],
    "enable_annotations": [["x"], [], ["y", "z"]],
    "block_device_cache_direct": [True, False],
}
tables = st.fixed_dictionaries({}, optional={key: st.sampled_from(values) for key, values in KEYS.items()})
names = st.text(st.characters(min_codepoint=33, max_codepoint=0x1F64F, exclude_characters="/", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6)
others = st.sampled_from(["", "[runtime]\nx = 1\n", "nonsense\n", "[other]\n", "[hypervisor.fc]\npath = '/f'\n", "[hypervisor.qemu]\nwrong_key = 1\n"])
files = st.tuples(tables, others, st.sampled_from(["regular", "regular", "symlink", "directory", "fifo"]))


def toml_of(table):
    def value(item):
        if isinstance(item, bool):
            return str(item).lower()
        return "[" + ", ".join(map(value, item)) + "]" if isinstance(item, list) else "'%s'" % item

    return "".join("hypervisor.qemu.%s = %s\n" % (key, value(item)) for key, item in table.items())


def model(base_table, folder, runtime):
    """(values, refused) by the prose of the measured table."""
    values, refused = dict(base_table), False
    for name in sorted(folder, key=str.encode):
        table, other, kind = folder[name]
        text_ok = other != "nonsense\n" and not (other.startswith("[hypervisor.qemu]") and table)  # [hypervisor.qemu] after dotted keys: defined twice
        if kind in ("directory", "fifo") or (kind == "symlink" and runtime == "rs") or not text_ok:
            refused = True
            continue
        if other.startswith("[hypervisor.fc]") or (runtime == "go" and "wrong_key" in other):
            refused = True
        values.update(table)
        if runtime == "rs" and "wrong_key" in other:
            values["wrong_key"] = 1
    return values, refused


@settings(deadline=None)
@given(tables, st.dictionaries(names, files, max_size=6), st.sampled_from(["go", "rs"]))
def test_merge_equals_an_independent_model(base_table, folder, runtime):
    sources = [
        entry(name, toml_of(table) + other if kind in ("regular", "symlink") else None, kind, target="/t", target_kind="regular")
        for name, (table, other, kind) in folder.items()
    ]
    text = "hypervisor.qemu.kernel = '/k'\nhypervisor.qemu.image = '/i'\nhypervisor.qemu.virtio_fs_daemon = '/d'\nruntime.hypervisor_name = 'qemu'\n" + toml_of(
        base_table
    )
    result = effective(base(text), sources, runtime, "3.29.0")
    values, refused = model(dict(base_table, kernel="/k", image="/i", virtio_fs_daemon="/d"), folder, runtime)
    if len(result["hypervisors"]) == 1 or runtime == "rs":
        assert result["values"] == values
    assert result["refused"] is refused
    for key, path in result["sources"].items():
        winner = [name for name in sorted(folder, key=str.encode) if path == "/k/config.d/" + name]
        assert path == "/k/configuration-qemu.toml" or (winner and (key in folder[winner[0]][0] or key == "wrong_key"))


def test_a_base_file_that_cannot_be_read_is_not_judged():
    result = effective(base(None, kind="unreadable", reason="Permission denied"))
    assert [problem["code"] for problem in result["problems"]] == ["base_unreadable", "configuration_unknown"]
    assert (result["refused"], result["unknown"]) == (False, "/k/configuration-qemu.toml: its content is not known: Permission denied")


@settings(deadline=None)
@given(st.text(max_size=200), st.text(max_size=200), st.sampled_from(["go", "rs"]))
def test_no_text_makes_the_merge_fail(first, second, runtime):
    result = effective(base(first), [entry("a.toml", second)], runtime)
    assert isinstance(result["refused"], bool)

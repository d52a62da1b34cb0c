# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TOML as each release reads it. What the Go runtime takes was measured with BurntSushi/toml 1.2.0 to 1.6.0."""

from __future__ import annotations

import pytest
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.toml import as_toml_1_0, line_of, read
from hypothesis import given, settings
from hypothesis import strategies as st

NEWER = (
    ("a = {b = 1,\n c = 2,\n}\n", {"a": {"b": 1, "c": 2}}),
    ("a = {\n# {\nb = 1 # }\n}\nz = 1\n", {"a": {"b": 1}, "z": 1}),
    ('a = {b = [1,\n2,],\n c = "}"}\n', {"a": {"b": [1, 2], "c": "}"}}),
    ('a = "\\e\\x41\\\\e"\n', {"a": "\x1bA\\e"}),
    ('a = """\\x41\\e"""\n', {"a": "A\x1b"}),
)
WRONG = ("a = {,}", "a = {b = 1,,}", "a = 1e999", "a = 9223372036854775808", "\u00e9 = 1", "a = 1\na = 2", 'a = "\\q"', "a = 25:00:00")


@pytest.mark.parametrize("text, document", NEWER)
@pytest.mark.parametrize("runtime, before, since", [("go", "3.27.0", "3.28.0"), ("rs", "3.32.0", "4.0.0")])
def test_toml_1_1_by_release(text, document, runtime, before, since):
    assert read(text, runtime, before).fault
    assert read(text, runtime, since).document == document
    assert read(text, runtime, None).unsure


@pytest.mark.parametrize("text", ["a = 07:32", "a = 1979-05-27 07:32", "a = 1979-05-27T07:32Z", "a = 1979-05-27T07:32-07:00"])
def test_times_without_seconds(text):
    assert read(text, "go", "3.21.0").fault
    assert read(text, "go", "3.30.0").document


@pytest.mark.parametrize("text", WRONG)
@pytest.mark.parametrize("runtime, release", [("go", "3.20.0"), ("go", "4.1.0"), ("rs", "3.20.0"), ("rs", "4.1.0")])
def test_refused_by_all(text, runtime, release):
    assert read(text, runtime, release).fault


def test_the_replacement_character_and_the_byte_order_mark():
    assert read("# \ufffd\n", "go", "3.20.0").fault.startswith("line 1: ")
    assert read("# \ufffd\n", "go", "3.21.0").document == {}
    assert read("# \ufffd\n", "rs", "3.4.0").document == {}
    assert read("# \ufffd\n", "go", None).unsure
    assert read("\ufeffa = 1\n", "go", "3.4.0").fault
    assert read("\ufeffa = 1\n", "go", "3.5.0").document == {"a": 1}


def test_a_key_that_stands_twice_first_as_an_array():
    """BurntSushi/toml before 1.6.0 takes the second; which of our answers is right is not worth a parser of our own."""
    assert read('a = ["x"]\na = 1\n', "go", "3.21.0").unsure
    assert read('a = ["x"]\na = 1\n', "go", "3.28.0").fault
    assert read("a = 1\na = 2\n", "go", "3.21.0").fault


def test_a_fault_names_its_line():
    assert "line 3" in read("a = 1\n\nb = = 1\n", "go", "4.1.0").fault
    assert "line 2" in read("a = 1\nb = 99999999999999999999\n", "rs", "3.20.0").fault
    assert line_of('[x]\n"default_memory" = 3\n', "default_memory") == "line 2: "


@settings(deadline=None)
@given(st.text(st.sampled_from("a=1{}[],\n\"'#\\ex:0 "), max_size=40))
def test_the_translation_never_fails_and_leaves_what_is_older_alone(text):
    found = read(text, "go", "3.20.0")
    newer = read(text, "go", "4.1.0")
    assert isinstance(as_toml_1_0(text), str)
    if found.document is not None:
        assert newer.document == found.document

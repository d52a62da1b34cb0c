# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The QMP reader: real answers with other text between them, and thousands of damaged ones."""

from __future__ import annotations

import json
import time

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._qemu import qmp as _qmp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# What Debian's QEMU 7.2.22 printed on stdout (QMP on stdio, with the monitor's qemu-io in between).
RECORDED = (
    b'{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian 1:7.2+dfsg-7+deb12u18+b3"}, '
    b'"capabilities": ["oob"]}}\r\n'
    b'{"return": {}}\r\n'
    b'{"error": {"class": "GenericError", "desc": "aio=native was specified, but is not supported in this build."}}\r\n'
    b"wrote 65536/65536 bytes at offset 0\n64 KiB, 1 ops; 00.00 sec (184.939 MiB/sec and 2959.0264 ops/sec)\n"
    b'{"return": ""}\r\n'
    b'{"timestamp": {"seconds": 1700000000, "microseconds": 1}, "event": "SHUTDOWN", "data": {"guest": false, "reason": "host-qmp-quit"}}\r\n'
)


def test_messages_and_noise_are_told_apart():
    reader = _qmp.QmpReader()
    messages = reader.feed(RECORDED)
    assert [noise.splitlines()[:1] for _message, noise in messages] == [[], [], [], ["wrote 65536/65536 bytes at offset 0"], []]
    assert [next(key for key in ("QMP", "return", "error", "event") if key in message) for message, _noise in messages] == [
        "QMP",
        "return",
        "error",
        "return",
        "event",
    ]
    assert reader.noise() == ""


@given(st.lists(st.integers(1, 60), max_size=40))
def test_pieces_do_not_matter(sizes):
    reader, whole, messages, at = _qmp.QmpReader(), _qmp.QmpReader(), [], 0
    for size in sizes:
        messages += reader.feed(RECORDED[at : at + size])
        at += size
    messages += reader.feed(RECORDED[at:])
    assert messages == whole.feed(RECORDED)


def test_text_without_a_line_end_before_a_message():
    reader = _qmp.QmpReader()
    assert reader.feed(b'half a line {"return": {}}\n') == [({"return": {}}, "half a line \n")]


def test_a_line_without_end_is_refused():
    reader = _qmp.QmpReader()
    with pytest.raises(_qmp.QmpError) as caught:
        for _turn in range(200):
            reader.feed(b"y" * 65536)
    assert caught.value.kind == "unintelligible"


def test_much_noise_is_cut():
    reader = _qmp.QmpReader()
    for _turn in range(50):
        reader.feed(b"y\n" * 4096)
    assert len(reader.noise()) <= _qmp.MAX_NOISE + 1


def test_deep_nesting_is_noise():
    reader = _qmp.QmpReader()
    assert reader.feed(b'{"return": ' + b"[" * 200000 + b"\n") == []


@settings(max_examples=10000, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(st.integers(0, len(RECORDED) - 1), st.integers(0, 255)), max_size=16),
    st.integers(0, len(RECORDED)),
    st.binary(max_size=40),
    st.integers(1, 400),
)
def test_damaged_streams_give_messages_or_noise(changes, cut, inserted, size):
    data = bytearray(RECORDED)
    for offset, value in changes:
        data[offset] = value
    data[cut:cut] = inserted
    reader = _qmp.QmpReader()
    started = time.process_time()
    for at in range(0, len(data), size):
        for message, noise in reader.feed(bytes(data[at : at + size])):
            assert isinstance(message, dict)
            assert len(noise) <= 2 * len(data) + 2
            _qmp.words_of(message)
            try:
                version, package = _qmp.version_of(message)
            except _qmp.QmpError as exc:
                assert exc.kind == "unintelligible"
            else:
                assert version.count(".") == 2
                assert isinstance(package, str)
    assert len(reader.noise()) <= 2 * len(data) + 2
    assert time.process_time() - started < 5


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@settings(max_examples=300, deadline=None)
@given(
    st.fixed_dictionaries({"QMP": st.one_of(JSON, st.fixed_dictionaries({"version": st.one_of(JSON, st.fixed_dictionaries({"qemu": JSON, "package": JSON}))}))})
)
def test_any_greeting_is_a_version_or_refused(greeting):
    try:
        version, _package = _qmp.version_of(greeting)
    except _qmp.QmpError:
        return
    assert version


@pytest.mark.parametrize(("package", "expected"), [("", ""), ("Debian 1:7.2+dfsg-7", "Debian 1:7.2+dfsg-7"), (" (kata-static)", "kata-static"), (None, "")])
def test_version_and_package(package, expected):
    greeting = {"QMP": {"version": {"qemu": {"major": 8, "minor": 2, "micro": 4}, "package": package}}}
    assert _qmp.version_of(greeting) == ("8.2.4", expected)


class Told:
    """Stands for a process: gives recorded bytes, then nothing."""

    def __init__(self, *pieces):
        self.pieces = list(pieces)
        self.sent = b""

    def read(self):
        return self.pieces.pop(0) if self.pieces else b""

    def write(self, data):
        self.sent += data

    def count(self, size):
        pass


def test_a_conversation_is_recorded():
    record = []
    session = _qmp.QmpSession(Told(RECORDED), record)
    assert session.greet()["QMP"]
    answer = session.ask("blockdev-add", {"driver": "file"})
    assert (answer.ok, answer.words) == (False, "aio=native was specified, but is not supported in this build.")
    assert "wrote 65536/65536" in session.monitor('qemu-io n "write 0 64k"').noise
    assert [item["sent"]["execute"] for item in record] == ["qmp_capabilities", "blockdev-add", "human-monitor-command"]
    assert record[1]["answered"]["error"]["class"] == "GenericError"


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        ((), "ended"),
        ((None,), "timed_out"),
        ((b'{"return": {}}\n',), "unintelligible"),
        ((b"hello\n",), "ended"),
        ((b'{"QMP": {}}\n',), "unintelligible"),
    ],
)
def test_why_a_greeting_fails(pieces, kind):
    with pytest.raises(_qmp.QmpError) as caught:
        _qmp.QmpSession(Told(*pieces)).greet()
    assert caught.value.kind == kind


@given(JSON)
def test_lists_of_another_shape_are_refused(value):
    answer = _qmp.Answer(True, value, None, "", [])
    try:
        items = _qmp.items_of(answer)
    except _qmp.QmpError as exc:
        assert exc.kind == "unintelligible"
    else:
        assert all(isinstance(item["name"], str) for item in items)


def test_requests_are_lines_of_json():
    told = Told(RECORDED)
    _qmp.QmpSession(told).greet()
    assert json.loads(told.sent) == {"execute": "qmp_capabilities"}

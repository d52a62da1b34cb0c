# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger and what a rollback makes of it."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._change import rollback as _rollback
from ansible_collections.kataops.aio.plugins.module_utils._change import transaction as _atomic
from ansible_collections.kataops.aio.plugins.module_utils._change.ledger import KEEP_ENTRIES, Ledger
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError

ABOUT = {"tool": "test", "kind": "change", "collection_version": "1.2.3"}
INFO = {"runtimes": [{"id": "/r", "handlers": ["kata"]}]}


class Place:
    def __init__(self, folder):
        self.folder = folder
        self.state = str(folder / "state")
        self.ledger = Ledger(self.state)

    def write(self, name, content, **more):
        path = self.folder / name
        old = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None
        new = None if content is None else base64.b64encode(content).decode()
        return _atomic.transact(self.state, [dict({"path": str(path), "expected_sha256": old, "content_b64": new, "info": INFO}, **more)], ABOUT)

    def roll_back(self, names=(), force=False, check=False):
        return _rollback.rollback(self.state, list(names), force, check, ABOUT)

    def content(self, name="f"):
        return (self.folder / name).read_bytes() if (self.folder / name).exists() else None


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_an_entry_says_what_when_and_by_whom(place):
    place.write("f", b"one\n")
    (entry,) = place.ledger.entries()
    assert entry["schema_version"] == 1 and entry["seq"] == 1 and entry["state"] == "done" and entry["kind"] == "change"
    assert entry["collection_version"] == "1.2.3" and entry["time"].endswith("Z")
    (change,) = entry["changes"]
    assert change["before"] == {"absent": True} and change["after"]["sha256"] == hashlib.sha256(b"one\n").hexdigest() and change["info"] == INFO
    assert place.ledger.content(change["after"]["sha256"]) == b"one\n"
    assert [path.stat().st_mode & 0o777 for path in (place.folder / "state").rglob("*") if path.is_file()] == [0o600] * 3


def test_reading_makes_nothing(tmp_path):
    ledger = Ledger(str(tmp_path / "none"))
    assert ledger.entries() == [] and ledger.pending() == [] and ledger.applied() == {} and ledger.next_seq() == 1
    assert _atomic.recover(str(tmp_path / "none")) == []
    assert not (tmp_path / "none").exists()


def test_back_to_the_first_change_that_still_stands(place):
    (place.folder / "f").write_bytes(b"zero\n")
    for content in (b"one\n", b"two\n", b"three\n"):
        place.write("f", content)
    place.write("g", b"new\n")
    assert place.roll_back(check=True)["changed"] and place.content() == b"three\n"
    result = place.roll_back()
    assert result["changed"] and [file["path"][-1] for file in result["files"]] == ["f", "g"]
    assert place.content() == b"zero\n" and place.content("g") is None
    assert place.roll_back()["changed"] is False
    place.write("f", b"four\n")
    place.roll_back()
    assert place.content() == b"zero\n"


def test_what_others_wrote_in_between_is_what_stood_before_us(place):
    (place.folder / "f").write_bytes(b"zero\n")
    place.write("f", b"one\n")
    (place.folder / "f").write_bytes(b"theirs\n")
    place.write("f", b"two\n")
    place.roll_back()
    assert place.content() == b"theirs\n"
    assert place.roll_back()["changed"] is False and place.content() == b"theirs\n"


def test_a_file_of_ours_stays_ours_when_others_edit_it(place):
    place.write("f", b"one\n", whole_file=True)
    (place.folder / "f").write_bytes(b"one, edited\n")
    place.write("f", b"two\n", whole_file=True)
    place.roll_back()
    assert place.content() is None
    place.write("f", b"one\n", whole_file=True)
    (place.folder / "f").unlink()
    place.write("f", b"two\n", whole_file=True)
    place.roll_back()
    assert place.content() is None


def test_what_was_cleared_is_not_brought_back(place):
    (place.folder / "f").write_bytes(b"zero\n")
    place.write("f", b"zero\nours\n")
    (place.folder / "f").write_bytes(b"zero\nours\ntheirs\n")
    place.write("f", b"zero\ntheirs\n", clears=True)
    assert place.ledger.applied() == {} and place.roll_back()["changed"] is False
    place.write("f", b"zero\nours\ntheirs\n")
    place.roll_back()
    assert place.content() == b"zero\ntheirs\n"


@pytest.mark.parametrize("now", [b"theirs\n", None])
def test_refused_where_somebody_changed_it_since(place, now):
    (place.folder / "f").write_bytes(b"zero\n")
    place.write("f", b"one\n")
    (place.folder / "f").unlink()
    if now is not None:
        (place.folder / "f").write_bytes(now)
    with pytest.raises(AioError, match="somebody changed this file after us") as failure:
        place.roll_back()
    assert "-one" in failure.value.details["difference"] and place.content() == now
    place.roll_back(force=True)
    assert place.content() == b"zero\n"
    if now is not None:
        assert place.ledger.content(hashlib.sha256(now).hexdigest()) == now


def test_what_somebody_has_taken_back_himself_is_no_trouble(place):
    place.write("f", b"one\n")
    (place.folder / "f").unlink()
    assert place.roll_back()["changed"] is False


def test_a_folder_that_is_gone_is_no_trouble(place):
    (place.folder / "d").mkdir()
    (place.folder / "d/f").write_bytes(b"zero\n")
    place.write("d/f", b"one\n")
    (place.folder / "d/f").unlink()
    (place.folder / "d").rmdir()
    assert "nothing to take back" in place.roll_back()["notes"][0]


def test_only_the_named_runtimes(place):
    place.write("f", b"one\n", info={"runtimes": [{"id": "/a", "handlers": ["kata-a"]}]})
    place.write("g", b"one\n", info={"runtimes": [{"id": "/b", "handlers": ["kata-b"]}]})
    place.write("h", b"one\n", info={"runtimes": [{"id": "/b", "handlers": ["kata-b"]}, {"id": "/c", "handlers": []}]})
    assert [file["path"][-1] for file in place.roll_back(["kata-a"])["files"]] == ["f"]
    with pytest.raises(AioError, match="other runtimes too.*add /c"):
        place.roll_back(["/b"])
    assert place.roll_back(["kata-b", "/c"])["changed"] and place.content("g") is None
    assert place.roll_back(["unheard-of"])["changed"] is False


def test_undo_of_one_transaction_leaves_the_others(place):
    (place.folder / "f").write_bytes(b"zero\n")
    place.write("f", b"one\n")
    place.write("f", b"two\n")
    _rollback.undo(place.state, 2, ABOUT)
    assert place.content() == b"one\n" and place.ledger.applied()[str(place.folder / "f")][0][0]["seq"] == 1
    place.write("f", b"three\n")
    place.roll_back()
    assert place.content() == b"zero\n"
    with pytest.raises(AioError, match="no applied transaction 9"):
        _rollback.undo(place.state, 9, ABOUT)


def test_undo_behind_a_foreign_change(place):
    (place.folder / "f").write_bytes(b"zero\n")
    place.write("f", b"one\n")
    (place.folder / "f").write_bytes(b"theirs\n")
    place.write("f", b"two\n")
    _rollback.undo(place.state, 2, ABOUT)
    assert place.content() == b"theirs\n" and place.ledger.applied() == {}
    place.write("f", b"three\n")
    (place.folder / "f").write_bytes(b"theirs too\n")
    with pytest.raises(AioError, match="somebody changed"):
        _rollback.undo(place.state, 4, ABOUT)


def test_pruning_keeps_all_that_a_rollback_needs(place):
    (place.folder / "keep").write_bytes(b"zero\n")
    place.write("keep", b"ours\n")
    for number in range(KEEP_ENTRIES + 20):
        place.write("f", b"%d\n" % number)
        place.roll_back(["/none"])
    place.roll_back(["kata"])
    for number in range(KEEP_ENTRIES + 5):
        place.write("g", b"%d\n" % number, info={"runtimes": []})
        (place.folder / "g").write_bytes(b"theirs %d\n" % number)
    entries = place.ledger.entries()
    assert len(entries) <= KEEP_ENTRIES + 3
    named = {state.get("sha256") for entry in entries for change in entry["changes"] for state in (change["before"], change["after"])} - {None}
    assert {path.name for path in (place.folder / "state/originals").iterdir()} == named
    assert place.content("keep") == b"zero\n"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("{", "damaged"),
        (json.dumps({"schema_version": 2, "seq": 1, "collection_version": "9"}), "schema version 2.*use the version of the collection"),
    ],
)
def test_entries_that_cannot_be_read_stop_everything(place, damage, words):
    place.write("f", b"one\n")
    (path,) = (place.folder / "state/ledger").iterdir()
    path.write_text(damage)
    with pytest.raises(AioError, match=words):
        place.roll_back()
    with pytest.raises(AioError, match=words):
        place.write("f", b"two\n")
    assert place.content() == b"one\n"


def test_kept_contents_are_checked(place):
    (place.folder / "f").write_bytes(b"zero\n")
    place.write("f", b"one\n")
    original = place.folder / "state/originals" / hashlib.sha256(b"zero\n").hexdigest()
    original.write_bytes(b"other\n")
    with pytest.raises(AioError, match="this kept content is damaged"):
        place.roll_back()
    original.unlink()
    with pytest.raises(AioError, match="but it is gone"):
        place.roll_back()
    assert place.content() == b"one\n"

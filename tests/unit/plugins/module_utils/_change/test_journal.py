# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal and what a rollback makes of it."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._change import rollback, transaction
from ansible_collections.kataops.aio.plugins.module_utils._change.journal import KEEP_ENTRIES, Journal
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._version import VERSION

ABOUT = {"tool": "test", "kind": "change"}
INFO = {"runtimes": [{"id": "/r", "handlers": ["kata"]}]}


class Place:
    def __init__(self, folder):
        self.folder = folder
        self.state = str(folder / "state")
        self.journal = Journal(self.state)

    def write(self, name, content, **more):
        path = self.folder / name
        old = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None
        new = None if content is None else base64.b64encode(content).decode()
        request = {"kind": "file", "name": str(path), "expected_sha256": old, "content_b64": new, "info": INFO}
        return transaction.transact(self.journal, [dict(request, **more)], ABOUT)

    def roll_back(self, names=(), force=False, check=False):
        return rollback.roll_back(self.journal, ABOUT, names=list(names), force=force, check_mode=check)

    def content(self, name="f"):
        return (self.folder / name).read_bytes() if (self.folder / name).exists() else None


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_an_entry_says_what_when_and_by_whom(place):
    place.write("f", b"one\n")
    (entry,) = place.journal.entries()
    assert entry["schema_version"] == 2 and entry["seq"] == 1 and entry["state"] == "done" and entry["kind"] == "change"
    assert entry["collection_version"] == VERSION and entry["time"].endswith("Z")
    (change,) = entry["changes"]
    assert change["before"] == {"absent": True} and change["after"]["sha256"] == hashlib.sha256(b"one\n").hexdigest()
    assert change["info"] == dict(INFO, tool="test")
    assert place.journal.content(change["after"]["sha256"]) == b"one\n"
    assert [path.stat().st_mode & 0o777 for path in (place.folder / "state").rglob("*") if path.is_file()] == [0o600] * 3


def test_reading_makes_nothing(tmp_path):
    journal = Journal(str(tmp_path / "none"))
    assert journal.entries() == [] and journal.pending() == [] and journal.standing() == {} and journal.next_seq() == 1
    assert transaction.recover(journal) == []
    assert not (tmp_path / "none").exists()


def test_back_to_the_first_change_that_still_stands(place):
    (place.folder / "f").write_bytes(b"zero\n")
    for content in (b"one\n", b"two\n", b"three\n"):
        place.write("f", content)
    place.write("g", b"new\n")
    assert place.roll_back(check=True)["changed"] and place.content() == b"three\n"
    result = place.roll_back()
    assert result["changed"] and [shown["name"][-1] for shown in result["objects"]] == ["g", "f"]
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


def test_what_stood_before_us_never_has_anything_of_ours(place):
    """Another program edits the file between two changes of ours; the second says what the file is without us."""
    (place.folder / "f").write_bytes(b"zero\n")
    place.write("f", b"zero\nours\n")
    (place.folder / "f").write_bytes(b"zero\nours\ntheirs\n")
    place.write("f", b"zero\nours too\ntheirs\n", original_b64=base64.b64encode(b"zero\ntheirs\n").decode())
    place.roll_back()
    assert place.content() == b"zero\ntheirs\n"
    assert place.journal.standing() == {} and place.roll_back()["changed"] is False


def test_what_was_taken_out_is_not_brought_back(place):
    (place.folder / "f").write_bytes(b"zero\n")
    place.write("f", b"zero\nours\n")
    (place.folder / "f").write_bytes(b"zero\nours\ntheirs\n")
    place.write("f", b"zero\ntheirs\n", original_b64=base64.b64encode(b"zero\ntheirs\n").decode())
    assert place.journal.standing() == {} and place.roll_back()["changed"] is False


def test_a_file_that_another_program_changed_is_left_and_blocks_only_itself(place):
    (place.folder / "f").write_bytes(b"zero\n")
    place.write("f", b"one\n")
    place.write("g", b"ours\n")
    (place.folder / "f").write_bytes(b"theirs\n")
    result = place.roll_back()
    assert [(left["name"], left["case"]) for left in result["left"]] == [(str(place.folder / "f"), "changed")]
    assert "-one" in result["left"][0]["difference"] and "force" in result["left"][0]["remedy"]
    assert place.content() == b"theirs\n" and place.content("g") is None and result["changed"]
    assert place.roll_back()["changed"] is False
    place.roll_back(force=True)
    assert place.content() == b"zero\n" and place.journal.standing() == {}
    assert place.journal.content(hashlib.sha256(b"theirs\n").hexdigest()) == b"theirs\n"


def test_only_our_part_is_taken_out_of_a_changed_file(place):
    (place.folder / "f").write_bytes(b"zero\n")
    place.write("f", b"zero\nours\n")
    (place.folder / "f").write_bytes(b"zero\nours\ntheirs\n")
    edited = {"sha256": hashlib.sha256(b"zero\nours\ntheirs\n").hexdigest(), "content_b64": base64.b64encode(b"zero\ntheirs\n").decode()}
    stale = rollback.roll_back(place.journal, ABOUT, edited={str(place.folder / "f"): dict(edited, sha256="0" * 64)})
    assert stale["left"] and place.content() == b"zero\nours\ntheirs\n"
    result = rollback.roll_back(place.journal, ABOUT, edited={str(place.folder / "f"): edited})
    assert place.content() == b"zero\ntheirs\n" and result["changed"] and not result["left"] and "only our part" in result["notes"][0]
    assert place.journal.standing() == {}


def test_a_file_that_was_replaced_has_nothing_to_undo(place):
    """kata-deploy copies a new release over the file: the old one must not come back."""
    (place.folder / "f").write_bytes(b"old release\n")
    place.write("f", b"old release\nours\n")
    (place.folder / "f").write_bytes(b"new release\n")
    same = {"sha256": hashlib.sha256(b"new release\n").hexdigest(), "content_b64": base64.b64encode(b"new release\n").decode()}
    result = rollback.roll_back(place.journal, ABOUT, edited={str(place.folder / "f"): same})
    assert not result["changed"] and not result["left"] and "nothing to undo" in result["notes"][0]
    assert place.content() == b"new release\n" and place.journal.standing() == {}
    place.roll_back(force=True)
    assert place.content() == b"new release\n"


def test_a_file_that_was_removed_has_nothing_to_undo_but_force_brings_it_back(place):
    (place.folder / "f").write_bytes(b"zero\n")
    place.write("f", b"one\n")
    (place.folder / "f").unlink()
    assert place.roll_back(check=True)["changed"] is False
    assert place.roll_back(force=True)["changed"] and place.content() == b"zero\n"
    place.write("f", b"one\n")
    (place.folder / "f").unlink()
    result = place.roll_back()
    assert not result["changed"] and not result["left"] and "removed by another program" in result["notes"][0]
    assert place.journal.standing() == {}


def test_a_name_that_became_a_link_has_nothing_to_undo(place):
    """kata-deploy 3.26 moves the base file away and leaves a link."""
    (place.folder / "f").write_bytes(b"zero\n")
    place.write("f", b"one\n")
    place.write("g", b"ours\n")
    (place.folder / "moved").write_bytes(b"a new copy\n")
    (place.folder / "f").unlink()
    (place.folder / "f").symlink_to("moved")
    result = place.roll_back()
    assert not result["left"] and "it is a link now" in result["notes"][0]
    assert place.content("moved") == b"a new copy\n" and (place.folder / "f").is_symlink() and place.content("g") is None
    assert place.journal.standing() == {}


def test_a_link_that_leads_to_our_content_is_left_with_its_target(place):
    (place.folder / "f").write_bytes(b"zero\n")
    place.write("f", b"one\n")
    (place.folder / "f").rename(place.folder / "moved")
    (place.folder / "f").symlink_to("moved")
    result = place.roll_back()
    assert "link to %s now" % (place.folder / "moved") in result["left"][0]["reason"] and place.content("moved") == b"one\n"


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
    assert "nothing to undo" in place.roll_back()["notes"][0]


def test_only_the_named_runtimes(place):
    place.write("f", b"one\n", info={"runtimes": [{"id": "/a", "handlers": ["kata-a"]}]})
    place.write("g", b"one\n", info={"runtimes": [{"id": "/b", "handlers": ["kata-b"]}]})
    place.write("h", b"one\n", info={"runtimes": [{"id": "/b", "handlers": ["kata-b"]}, {"id": "/c", "handlers": []}]})
    assert [shown["name"][-1] for shown in place.roll_back(["kata-a"])["objects"]] == ["f"]
    with pytest.raises(AioError, match="other runtimes, too.*add /c"):
        place.roll_back(["/b"])
    assert place.roll_back(["kata-b", "/c"])["changed"] and place.content("g") is None
    assert place.roll_back(["unheard-of"])["changed"] is False


def test_undo_of_one_transaction_leaves_the_others(place):
    (place.folder / "f").write_bytes(b"zero\n")
    place.write("f", b"one\n")
    place.write("f", b"two\n")
    rollback.revert(place.journal, 2, ABOUT)
    assert (
        place.content() == b"one\n"
        and place.journal.standing()["file", str(place.folder / "f")][1]["original"]["sha256"] == hashlib.sha256(b"zero\n").hexdigest()
    )
    place.write("f", b"three\n")
    place.roll_back()
    assert place.content() == b"zero\n"
    with pytest.raises(AioError, match="no transaction 9"):
        rollback.revert(place.journal, 9, ABOUT)


def test_undo_behind_a_foreign_change(place):
    (place.folder / "f").write_bytes(b"zero\n")
    place.write("f", b"one\n")
    (place.folder / "f").write_bytes(b"theirs\n")
    place.write("f", b"two\n")
    rollback.revert(place.journal, 2, ABOUT)
    assert place.content() == b"theirs\n" and place.journal.standing() == {}
    place.write("f", b"three\n")
    (place.folder / "f").write_bytes(b"theirs too\n")
    with pytest.raises(AioError, match="another program changed"):
        rollback.revert(place.journal, 4, ABOUT)


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
    entries = place.journal.entries()
    assert len(entries) <= KEEP_ENTRIES + 3
    named = {change[state].get("sha256") for entry in entries for change in entry["changes"] for state in ("before", "after", "original")} - {None}
    assert {path.name for path in (place.folder / "state/contents").iterdir()} == named
    assert place.content("keep") == b"zero\n"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("{", "damaged"),
        (json.dumps({"schema_version": 3, "seq": 1, "collection_version": "9"}), "schema version 3.*use the version of the collection"),
    ],
)
def test_entries_that_cannot_be_read_stop_everything(place, damage, words):
    place.write("f", b"one\n")
    (path,) = (place.folder / "state/journal").iterdir()
    path.write_text(damage)
    with pytest.raises(AioError, match=words):
        place.roll_back()
    with pytest.raises(AioError, match=words):
        place.write("f", b"two\n")
    assert place.content() == b"one\n"


def test_kept_contents_are_checked(place):
    (place.folder / "f").write_bytes(b"zero\n")
    place.write("f", b"one\n")
    original = place.folder / "state/contents" / hashlib.sha256(b"zero\n").hexdigest()
    original.write_bytes(b"other\n")
    assert "this kept content is damaged" in place.roll_back()["left"][0]["reason"]
    original.unlink()
    assert "but it is gone" in place.roll_back()["left"][0]["reason"]
    assert place.content() == b"one\n"
    assert place.content() == b"one\n"

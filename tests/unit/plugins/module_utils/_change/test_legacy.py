# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records that version 0.1 really made (tests/fixtures/records_0_1) are read as they are, folded in once, and rolled back."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._change import legacy, rollback, transaction, values
from ansible_collections.kataops.aio.plugins.module_utils._change.journal import Journal
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError

FIXTURES = Path(__file__).resolve().parents[4] / "fixtures" / "records_0_1"
ABOUT = {"tool": "journal", "kind": "rollback"}


class Place:
    def __init__(self, root, name):
        self.root = root / "host"
        shutil.copytree(FIXTURES / name, self.root)
        for path in self.root.rglob("*.json"):
            text = path.read_text(encoding="utf-8").replace("/ROOT", str(self.root))
            path.write_text(text.replace('"uid": 0', '"uid": %d' % os.geteuid()).replace('"gid": 0', '"gid": %d' % os.getegid()), encoding="utf-8")
        self.journal = Journal(str(self.root / "state"))

    def content(self, name):
        path = self.root / name
        return path.read_text(encoding="utf-8") if path.exists() else None

    def old_records(self):
        return sorted(name for name in os.listdir(self.root / "state") if name not in ("journal", "contents", "lock"))


@pytest.fixture
def changes(tmp_path):
    return Place(tmp_path, "changes")


def test_they_are_read_without_being_touched(changes):
    standing = {name.rsplit("/", 1)[1]: change for (_kind, name), (_entry, change) in changes.journal.standing().items()}
    assert set(standing) == {"a.toml", "b.toml", "c.toml", "60-kataops-aio.toml"}
    assert changes.journal.content(standing["a.toml"]["original"]["sha256"]) == b"zero\n"
    assert changes.old_records() == ["ledger", "originals"]


def test_a_rollback_brings_back_what_version_0_1_had_recorded(changes):
    result = rollback.roll_back(changes.journal, ABOUT)
    assert result["changed"] and not result["left"]
    found = [changes.content("kata/" + name) for name in ("a.toml", "b.toml", "c.toml", "gone.toml", "config.d/60-kataops-aio.toml")]
    assert found == ["zero\n", "zero\n", "theirs\n", None, None]
    assert not (changes.root / "kata/config.d").exists(), "our folder goes with its last file"
    assert changes.old_records() == [], "folded in"
    assert changes.journal.standing() == {} and rollback.roll_back(changes.journal, ABOUT)["changed"] is False


def test_a_new_change_goes_on_from_there(changes):
    path = changes.root / "kata/a.toml"
    request = {"kind": "file", "name": str(path), "expected_sha256": None, "content_b64": "dGhyZWUK", "info": {}}
    request["expected_sha256"] = transaction.KINDS["file"].look(str(path))[0]["sha256"]
    assert transaction.transact(changes.journal, [request], {"tool": "test", "kind": "change"})["seq"] == 11
    rollback.roll_back(changes.journal, ABOUT)
    assert changes.content("kata/a.toml") == "zero\n"


def test_a_fold_that_was_interrupted_is_done_again(changes):
    """Whatever rename of the fold is the last one: the same comes out."""
    expected = None
    rename, times = os.rename, []

    def until(limit):
        def fail(old, new):
            times.append(1)
            if len(times) > limit:
                raise KeyboardInterrupt
            rename(old, new)

        return fail

    for limit in range(40):
        times.clear()
        finished = False
        with pytest.MonkeyPatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
            patched.setattr(os, "rename", until(limit))
            with changes.journal.lock():
                finished = True
        found = {name: (change["original"].get("sha256"), change["after"].get("sha256")) for (_k, name), (_e, change) in changes.journal.standing().items()}
        assert expected in (None, found)
        expected = found
        if finished:
            break
    assert finished and limit > 5 and changes.old_records() == []


def test_version_0_1_that_runs_again_later_adds_to_the_journal(changes, tmp_path):
    with changes.journal.lock():
        pass
    before = len(changes.journal.entries())
    again = Place(tmp_path / "again", "changes")
    for name in ("ledger", "originals"):
        shutil.copytree(again.root / "state" / name, changes.root / "state" / name)
    for path in (changes.root / "state" / "ledger").iterdir():
        path.write_text(path.read_text(encoding="utf-8").replace("2026-11-27T19", "2026-12-01T19"), encoding="utf-8")
    with changes.journal.lock():
        assert len(changes.journal.entries()) == 2 * before


def test_an_interrupted_change_of_version_0_1_is_settled(tmp_path):
    place = Place(tmp_path, "interrupted")
    (found,) = transaction.recover(place.journal)
    assert found["outcome"] == "reverted" and place.content("kata/a.toml") == "zero\n"
    assert os.listdir(place.root / "kata") == ["a.toml"] and place.journal.pending() == []


def test_the_limits(tmp_path, monkeypatch):
    place = Place(tmp_path, "limits_only")
    monkeypatch.setattr(legacy, "SYSCTL_FILE", str(place.root / "etc/sysctl.d/60-kataops-aio.conf"))
    monkeypatch.setattr(values, "PROC_SYS", str(place.root / "proc"))
    (place.root / "proc/fs").mkdir(parents=True)
    (place.root / "proc/fs/aio-max-nr").write_text("65537\n", encoding="ascii")
    result = rollback.roll_back(place.journal, ABOUT)
    assert [shown["name"].rsplit("/", 1)[-1] for shown in result["objects"]] == ["60-kataops-aio.conf", "fs.aio-max-nr"]
    assert place.content("etc/sysctl.d/60-kataops-aio.conf") == "fs.aio-max-nr = 1\n" and place.content("proc/fs/aio-max-nr") == "65536\n"
    assert place.old_records() == []


def test_limits_that_were_recorded_but_never_changed_are_dropped(tmp_path):
    place = Place(tmp_path, "limits_only")
    (place.root / "state/limits/after.json").unlink()
    assert place.journal.entries() == [] and rollback.roll_back(place.journal, ABOUT)["changed"] is False
    assert place.old_records() == []


@pytest.mark.parametrize("damage", ["{", "[]", '{"schema_version": 1}', json.dumps({"schema_version": 1, "seq": 1, "changes": [1]}), '{"a":' * 100000])
def test_a_damaged_record_is_one_message(changes, damage):
    path = next((changes.root / "state/ledger").iterdir())
    path.write_text(damage, encoding="utf-8")
    with pytest.raises(AioError, match="record of version 0.1 is damaged"):
        changes.journal.entries()

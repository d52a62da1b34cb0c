# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong is told of what it went wrong with, and costs that observation alone."""

from __future__ import annotations

import errno
import os

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._change import files, transaction
from ansible_collections.kataops.aio.plugins.module_utils._change.journal import Journal
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._host import durable, guard, trust
from ansible_collections.kataops.aio.plugins.module_utils._qemu.bench import bench
from ansible_collections.kataops.aio.plugins.module_utils._qemu.observe import observe_qemus
from ansible_collections.kataops.aio.plugins.module_utils._qemu.proof import prove
from ansible_collections.kataops.aio.tests.hostile.attack import program
from hypothesis import given, settings
from hypothesis import strategies as st

GREETING = '{"QMP":{"version":{"qemu":{"micro":22,"minor":2,"major":7},"package":""},"capabilities":[]}}'
BROKEN = {
    "floods stderr": "#!/bin/sh\nexec 1>&-\nexec yes >&2\n",
    "floods stderr after its greeting": "#!/bin/sh\necho '%s'\nexec 1>&-\nexec yes >&2\n" % GREETING,
    "floods stdout": "#!/bin/sh\nexec yes\n",
    "floods stdout after its greeting": "#!/bin/sh\necho '%s'\nexec yes\n" % GREETING,
    "ends": "#!/bin/sh\nexit 3\n",
    "closes everything and stays": "#!/bin/sh\nexec 0<&- 1>&- 2>&-\nsleep 1000\n",
    "kills itself": "#!/bin/sh\nkill -9 $$\n",
    "kills its guard": "#!/bin/sh\nkill -9 $PPID; sleep 0.2\n",
    "does not read": "#!/bin/sh\nsleep 1000\n",
    "no interpreter": "#!/no/such/interpreter\n",
    "an answer of the wrong shape": "#!/bin/sh\necho '%s'\necho '{\"return\": {}}'\nwhile read x; do echo '{\"return\": [[{}]]}'; done\n" % GREETING,
    "numbers": "#!/bin/sh\necho '%s'\nwhile read x; do echo '{\"return\": 1e999}'; done\n" % GREETING,
}
ODD = ("an answer of the wrong shape", "numbers")


@pytest.fixture(autouse=True)
def below(tmp_path, monkeypatch):
    monkeypatch.setattr(trust, "JUDGED_BELOW", str(tmp_path))


@pytest.fixture(params=["namespace", "subreaper"])
def kind(request, monkeypatch):
    guard._reap()
    if request.param == "subreaper":
        monkeypatch.setattr(guard, "_own_process_namespace", lambda: None)
    yield
    guard._reap()


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_qemu_costs_its_own_observation_alone(kind, tmp_path, how):
    path = program(tmp_path / "qemu-broken", BROKEN[how], os.geteuid())
    other = program(tmp_path / "qemu-other", "#!/bin/sh\nexit 5\n", os.geteuid())
    broken, after = observe_qemus([path, other], str(tmp_path), 2)
    if how in ODD:  # it said something, but nothing from which an engine could be told
        assert not any(engine["usable"] for engine in broken["engines"].values())
    else:
        assert broken["status"] not in ("answered", None)
        assert broken["reason"].startswith(path + ": ")
    assert (after["status"], "status 5" in after["reason"]) == ("crashed", True)
    if how.startswith("floods stderr"):
        assert "stderr" in broken["reason"]


@pytest.mark.parametrize("how", BROKEN)
def test_the_proof_blames_the_qemu_not_the_storage(tmp_path, how):
    path = program(tmp_path / "qemu-broken", BROKEN[how], os.geteuid())
    result = prove(path, storage_path=str(tmp_path), timeout=2)
    assert result["ok"] is False and result["cause"] != "storage"
    assert result["reason"].startswith(path)
    assert prove(path, storage_path="/proc/self", timeout=2)["cause"] == "storage"


def test_the_bench_names_the_qemu(tmp_path):
    path = program(tmp_path / "qemu-broken", BROKEN["floods stderr after its greeting"], os.geteuid())
    with pytest.raises(AioError) as caught:
        bench(path, storage_path=str(tmp_path), size=1 << 20, timeout=2)
    assert caught.value.where == path


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_an_error_of_the_disk_names_the_path(tmp_path, monkeypatch, number):
    def refuse(*unused):
        raise OSError(number, os.strerror(number))

    change = {
        "kind": "file",
        "name": str(tmp_path / "x.toml"),
        "expected_sha256": None,
        "content_b64": "eA==",
        "mode": None,
        "uid": None,
        "gid": None,
        "info": {},
    }
    about = {"tool": "test", "kind": "change"}
    for module in (durable, files):
        with monkeypatch.context() as patch:
            patch.setattr(module, "write_all", refuse)
            with pytest.raises(AioError) as caught:
                transaction.transact(Journal(str(tmp_path / "state")), [change], about)
        assert caught.value.where.startswith(str(tmp_path)), module.__name__
        assert not (tmp_path / "x.toml").exists()


LINES = st.one_of(
    st.sampled_from([GREETING, '{"return": {}}', '{"error": {}}', '{"event": "x"}', "{", '{"QMP": 1}', '{"return": [1]}', "[]", '{"return": {"arch": []}}']),
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="'\0"), max_size=40),
)


@settings(max_examples=25)
@given(lines=st.lists(LINES, max_size=30), echo=st.booleans(), status=st.integers(0, 255))
def test_any_conversation_is_a_result(tmp_path_factory, lines, echo, status):
    folder = tmp_path_factory.mktemp("qemu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trust, "JUDGED_BELOW", str(folder))
        text = "#!/bin/sh\n" + "".join("printf '%%s\\n' '%s'\n%s" % (line, "read x\n" if echo else "") for line in lines) + "exit %d\n" % status
        path = program(folder / "qemu-x", text, os.geteuid())
        [seen] = observe_qemus([path], str(folder), 2)
    assert not any(engine["usable"] for engine in seen["engines"].values())
    assert seen["status"] == "answered" or seen["reason"].startswith(path)

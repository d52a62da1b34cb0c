# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One build's life with real processes: it outlives who started it, is never started twice, ends at its limit, and its failure is told.

The script that is run is a short one, since what a build does is the lab's to try.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._build import builder as _builder
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError

ID = "qemu-7.2.22-x86_64-static-0123456789ab"


@pytest.fixture
def build(tmp_path, monkeypatch):
    """A build whose script can be chosen: ``build.run(text)`` starts it."""
    made = _builder.Build(str(tmp_path / "work"), ID)
    monkeypatch.setattr(_builder, "NEEDED_BYTES", 1)

    def run(text, limit=60):
        monkeypatch.setattr(_builder._recipe, "script", lambda *unused, **more: "set -e\n" + text)
        return made.start({"made": "of"}, str(tmp_path / "cache"), limit)

    made.run = run
    yield made
    made.stop()


def wait(build, seconds=20):
    status = build.status(wait=seconds)
    assert status["state"] != "running"
    return status


def test_a_build_that_succeeds(build):
    assert build.status()["state"] == "absent"
    assert build.run("echo @@ $(date +%s) compile; sleep 1; echo '[7/9] x'")["state"] == "running"
    status = wait(build)
    assert (status["state"], status["rc"], status["done"], status["total"], status["log_tail"]) == ("succeeded", 0, 7, 9, [])
    # A second start finds it done, as long as what it made is there.
    os.mkdir(build.path("tree"))
    assert build.run("exit 1")["state"] == "succeeded"
    os.rmdir(build.path("tree"))
    build.run("exit 1")
    assert wait(build)["state"] == "failed"


def test_the_last_forty_lines_of_a_failure(build):
    build.run("for n in $(seq 100); do echo line $n; done; echo why >&2; exit 3")
    status = wait(build)
    assert (status["state"], status["rc"]) == ("failed", 3)
    assert status["log_tail"] == ["line %d" % n for n in range(62, 101)] + ["why"]
    # A failed build is begun again.
    assert build.run("true")["state"] in ("running", "succeeded")
    assert wait(build)["state"] == "succeeded"


def test_it_outlives_the_process_that_started_it_and_is_not_started_twice(build, tmp_path):
    code = (
        "import sys\n"
        "from ansible_collections.kataops.aio.plugins.module_utils._build import builder as _builder\n"
        "from ansible_collections.kataops.aio.plugins.module_utils._host import trust\n"
        "_builder.NEEDED_BYTES, trust.JUDGED_BELOW = 1, sys.argv[1]\n"
        "_builder._recipe.script = lambda *unused, **more: 'echo started >>%s; sleep 4; echo ended >>%s' % (sys.argv[3], sys.argv[3])\n"
        "print(_builder.Build(sys.argv[1], sys.argv[2]).start({}, sys.argv[1] + '/cache', 60)['state'])\n"
    )
    collections = str(pathlib.Path(_builder.__file__).parents[6])
    command = [sys.executable, "-c", code, str(tmp_path / "work"), ID, str(tmp_path / "trace")]
    for _turn in range(2):
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=dict(os.environ, PYTHONPATH=collections), start_new_session=True)
        assert done.stdout == b"running\n"
    assert wait(build)["state"] == "succeeded"
    assert (tmp_path / "trace").read_text(encoding="ascii") == "started\nended\n"


def test_a_build_that_was_killed_is_told_and_begun_again(build):
    build.run("sleep 60")
    session = int(pathlib.Path(build.path("session")).read_text(encoding="ascii"))
    while _builder._session_members(session):
        for pid in _builder._session_members(session):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert wait(build)["state"] == "interrupted"
    build.run("true")
    assert wait(build)["state"] == "succeeded"


def test_the_time_limit_ends_the_whole_of_it(build, tmp_path):
    mark = "%d.5" % (3000 + os.getpid() % 1000)
    build.run("(sleep %s & sleep %s)" % (mark, mark), limit=1)
    status = wait(build)
    assert (status["state"], status["rc"]) == ("failed", 124)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and running_with(mark):
        time.sleep(0.2)
    assert running_with(mark) == []


def running_with(mark):
    found = []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and mark.encode() in pathlib.Path("/proc", name, "cmdline").read_bytes():
                found.append(name)
        except OSError:
            continue
    return found


def test_stopping_ends_every_process(build):
    build.run("trap '' TERM; sleep 61 & sleep 62")
    status = build.stop()
    assert status["state"] in ("interrupted", "failed")
    session = int(pathlib.Path(build.path("session")).read_text(encoding="ascii"))
    assert _builder._session_members(session) == []


def test_too_little_room_is_told_before_anything_starts(build, monkeypatch):
    monkeypatch.setattr(_builder, "NEEDED_BYTES", 1 << 60)
    with pytest.raises(AioError, match="not enough room to build.*qemu_build_work_dir"):
        build.start({}, build.path("cache"), 60)
    assert build.status()["state"] == "absent"


def test_what_was_not_checked_is_not_packed(build):
    build.run("true")
    wait(build)
    with pytest.raises(AioError, match="no finished and checked build"):
        build.pack()
    pathlib.Path(build.path("checked.json")).write_text(json.dumps({"problems": ["it lacks native"]}), encoding="ascii")
    with pytest.raises(AioError, match="no finished and checked build"):
        build.pack()


def test_private_apt_sources_leave_the_builders_own_as_they_are(tmp_path, monkeypatch):
    etc = tmp_path / "etc"
    (etc / "sources.list.d").mkdir(parents=True)
    (etc / "sources.list").write_text("deb http://deb.example.org/debian bookworm main\n", encoding="ascii")
    (etc / "sources.list.d" / "more.sources").write_text("Types: deb\nURIs: http://x.example.org\nSuites: a\nComponents: b\n", encoding="ascii")
    (etc / "sources.list.d" / "old.list.save").write_text("deb http://no.example.org x y\n", encoding="ascii")
    before = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in etc.rglob("*") if path.is_file()}
    commands = []
    monkeypatch.setattr(_builder, "run", lambda command, *unused: commands.append(command))
    work = str(tmp_path / "work")
    _builder.refresh_sources(work, root=str(etc))
    _builder.refresh_sources(work, root=str(etc))
    assert len(commands) == 1
    assert commands[0][-1] == "update"
    assert "Dir::Etc::sourceparts=%s/apt/sources.list.d" % work in commands[0]
    made = {path.name: path.read_text(encoding="ascii") for path in (tmp_path / "work" / "apt" / "sources.list.d").iterdir()}
    assert made["sources.list"] == "deb-src http://deb.example.org/debian bookworm main\n"
    assert made["more.sources"].startswith("Types: deb-src\n")
    assert set(made) == {"sources.list", "more.sources"}
    assert {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in etc.rglob("*") if path.is_file()} == before


def test_a_command_that_fails_is_told_in_its_own_words():
    with pytest.raises(AioError, match="sh failed with status 3: why"):
        _builder.run(["sh", "-c", "echo why >&2; exit 3"])
    with pytest.raises(AioError, match="the builder has no kataops-no-such-command"):
        _builder.run(["kataops-no-such-command"])
    with pytest.raises(AioError, match="did not end within 1 seconds"):
        _builder.run(["sleep", "5"], limit=1)


@pytest.mark.skipif(not shutil.which("dpkg-query"), reason="asks dpkg")
def test_the_libraries_of_a_dynamic_program_belong_to_packages():
    found = _builder.runtime_packages("/bin/ls")
    owner = subprocess.run(["dpkg-query", "--search", "*/libc.so.6"], stdout=subprocess.PIPE, check=True).stdout.decode().split(":", 1)[0]
    assert owner in found
    assert found == sorted(set(found))


@pytest.mark.parametrize("name", ["/var/tmp/with space", "/var/tmp/with:colon"])
def test_a_folder_in_which_qemu_cannot_be_built_is_told_at_once(name):
    with pytest.raises(AioError, match="spaces or colons"):
        _builder.identify({"work_dir": name})

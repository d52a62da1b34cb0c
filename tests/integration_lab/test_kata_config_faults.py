# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kata's configuration under kill -9, full disks, read-only file systems and other writers.

Nothing in the code under test knows of faults: each system call that changes a file is counted in a forked child, and the child dies (or the call
fails, or somebody else writes) at the chosen one. So every step there is gets its turn, without a list of steps that could go stale.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import os
import signal
import stat
import subprocess
import tempfile
import time
import traceback
from pathlib import Path

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._change import files, rollback, transaction
from ansible_collections.kataops.aio.plugins.module_utils._change.journal import Journal
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._host import trust

pytestmark = pytest.mark.lab

ABOUT = {"tool": "test", "kind": "change"}
CALLS = ("open", "write", "fsync", "close", "rename", "link", "unlink", "mkdir", "rmdir", "chmod", "fchmod", "fchown", "setxattr", "utime")
NEEDS_SPACE = ("write", "link", "mkdir", "setxattr")
OLD_BASE = b'[hypervisor.qemu]\npath = "/opt/kata/bin/qemu"\nblock_device_aio = "io_uring"\n'
NEW_BASE = OLD_BASE.replace(b"io_uring", b"native")
OTHER_BASE = b'[hypervisor.qemu]\nmachine_type = "q35"\n'
DROP_IN = b'[hypervisor.qemu]\nblock_device_aio = "native"\nblock_device_cache_set = true\nblock_device_cache_direct = true\n'
LONG_AGO = 1_600_000_000_000_000_000


class Host:
    """Two installations of Kata with base files and config.d folders, and a journal, below one folder."""

    def __init__(self, root, state=None, kind="several"):
        self.root = Path(root)
        self.state = Path(state or self.root / "state")
        self.kind = kind
        self.one, self.two = self.root / "one", self.root / "two"

    def plant(self):
        for folder in (self.one, self.two):
            folder.mkdir(parents=True)
        self._write(self.one / "configuration-qemu.toml", OLD_BASE, 0o600)
        self._write(self.two / "configuration-qemu.toml", OTHER_BASE, 0o644)
        (self.two / "config.d").mkdir()
        self._write(self.two / "config.d/50-user.toml", b'[hypervisor.qemu]\nblock_device_aio = "threads"\n', 0o644)
        self._write(self.two / "config.d/60-kataops-aio.toml", b"# an earlier one\n[hypervisor.qemu]\n", 0o640)
        return self

    @staticmethod
    def _write(path, content, mode):
        path.write_bytes(content)
        path.chmod(mode)
        os.utime(path, ns=(LONG_AGO, LONG_AGO))

    def target(self):
        """What is wanted: ``{path: content}``, by the kind of transaction."""
        wanted = {
            "create": {self.one / "config.d/60-kataops-aio.toml": DROP_IN},
            "replace": {self.one / "configuration-qemu.toml": NEW_BASE},
            "remove": {self.two / "config.d/60-kataops-aio.toml": None},
            "several": {
                self.one / "config.d/60-kataops-aio.toml": DROP_IN,
                self.one / "configuration-qemu.toml": NEW_BASE,
                self.two / "config.d/60-kataops-aio.toml": None,
            },
        }
        return wanted[self.kind]

    def changes(self):
        """The changes to the target from what stands there now, as the controller half computes them."""
        found = []
        for path, content in self.target().items():
            digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None
            found.append(
                {
                    "kind": "file",
                    "name": str(path),
                    "expected_sha256": digest,
                    "content_b64": None if content is None else base64.b64encode(content).decode(),
                    "whole_file": path.parent.name == "config.d",
                    "info": {"runtimes": [{"id": str(path.parent), "handlers": []}]},
                }
            )
        return found

    def change(self):
        return transaction.transact(Journal(str(self.state)), self.changes(), ABOUT)

    def roll_back(self):
        return rollback.roll_back(Journal(str(self.state)), ABOUT)

    def snapshot(self):
        """Everything below both installations: ``{relative path: (kind, mode, content)}``."""
        found = {}
        for top in (self.one, self.two):
            for folder, folders, names in os.walk(top):
                for name in folders + names:
                    path = Path(folder, name)
                    info = path.lstat()
                    content = path.read_bytes() if stat.S_ISREG(info.st_mode) else None
                    found[str(path.relative_to(self.root))] = (stat.S_IFMT(info.st_mode), stat.S_IMODE(info.st_mode), content)
        return found

    def times(self):
        return {path: path.stat().st_mtime_ns for top in (self.one, self.two) for path in top.rglob("*.toml")}


class Interposed:
    """The changing calls of ``os``, counted; ``at(number, name, phase)`` is asked before and after each."""

    def __init__(self, at):
        self.at = at
        self.number = 0
        self.names = []
        self.real = {name: getattr(os, name) for name in CALLS}

    def __enter__(self):
        for name in CALLS:
            setattr(os, name, self._wrap(name))
        return self

    def __exit__(self, *_exc):
        for name, real in self.real.items():
            setattr(os, name, real)

    def _wrap(self, name):
        def call(*args, **kwargs):
            changing = name != "open" or args[1] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR)
            if not changing:
                return self.real[name](*args, **kwargs)
            self.number += 1
            self.names.append(name)
            number = self.number
            instead = self.at(number, name, "before", args)
            if instead is not None:
                args = instead
            result = self.real[name](*args, **kwargs)
            self.at(number, name, "after", args)
            return result

        return call


def in_child(work):
    """Run ``work`` in a forked child; its exit status as ``os.waitpid`` gives it."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            work()
            code = 0
        except AioError:
            code = 1
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1]


def die():
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def count_steps(make, work):
    """The changing calls of one undisturbed run."""
    host = make()
    with Interposed(lambda *_: None) as calls:
        work(host)
    return calls.names


def half_written(name, args):
    """A write that the kernel took only half of."""
    return (args[0], bytes(args[1])[: max(1, len(args[1]) // 2)]) + tuple(args[2:]) if name == "write" else None


def killer(step, phase):
    def at(number, name, when, args):
        if number != step:
            return None
        if phase == "half" and name == "write":
            if when == "before":
                return half_written(name, args)
            die()
        if phase == when:
            die()
        return None

    return at


def assert_only_whole_files(host, old, new):
    """What Kata would read now is, file by file, the old or the new one; nothing else is in a config.d."""
    for name, found in host.snapshot().items():
        base = os.path.basename(name)
        if base.startswith(files.PREFIX):
            assert "config.d" not in name, name
            continue
        assert found in (old.get(name), new.get(name)), name


def assert_settles(host, old, new):
    """The next run settles what was left: all or nothing, no leftovers; then it converges, and takes everything back."""
    now = host.snapshot()
    transaction.recover(Journal(str(host.state)))
    settled = host.snapshot()
    assert settled in (old, new), set(settled) ^ set(old)
    if now == old:
        assert settled == old, "nothing had been renamed, and yet it went forward"
    assert Journal(str(host.state)).pending() == []
    host.change()
    assert host.snapshot() == new
    assert host.change()["changed"] is False
    host.roll_back()
    assert host.snapshot() == old
    assert set(host.times().values()) == {LONG_AGO}
    assert [name for _f, _d, names in os.walk(host.state) for name in names if name.endswith(".tmp")] == []


@pytest.fixture
def hosts(tmp_path, monkeypatch):
    """Makes hosts; in memory where that is possible, for thousands of fsyncs take minutes on a disk."""
    with contextlib.ExitStack() as stack:
        memory = Path("/dev/shm")
        top = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory))) if os.access(memory, os.W_OK) else tmp_path
        made = []
        monkeypatch.setattr(trust, "JUDGED_BELOW", str(top))

        def make(kind):
            made.append(Host(top / str(len(made)), kind=kind).plant())
            return made[-1]

        yield make


def ends_of(make):
    host = make()
    old = host.snapshot()
    host.change()
    return old, host.snapshot()


@pytest.mark.parametrize("phase", ["before", "half", "after"])
@pytest.mark.parametrize("kind", ["create", "replace", "remove", "several"])
def test_kill_at_every_step(hosts, kind, phase):
    old, new = ends_of(lambda: hosts(kind))
    steps = count_steps(lambda: hosts(kind), Host.change)
    assert len(steps) > 15
    outcomes = set()
    for step in range(1, len(steps) + 1):
        if phase == "half" and steps[step - 1] != "write":
            continue
        host = hosts(kind)

        def work(host=host, step=step):
            with Interposed(killer(step, phase)):
                host.change()

        assert os.WTERMSIG(in_child(work)) == signal.SIGKILL, (step, steps[step - 1])
        assert_only_whole_files(host, old, new)
        outcomes.add("new" if host.snapshot() == new else "old" if host.snapshot() == old else "between")
        assert_settles(host, old, new)
    if phase == "after":
        assert {"old", "new"} <= outcomes | {"new"} and len(outcomes) > 1


def test_kill_while_settling(hosts):
    """A run that settles an interrupted one is itself killed, at every step."""
    kind = "several"
    old, new = ends_of(lambda: hosts(kind))
    steps = count_steps(lambda: hosts(kind), Host.change)
    renames = [number for number, name in enumerate(steps, 1) if name in ("rename", "unlink", "link")]
    tried = 0
    for first in renames:

        def interrupted(first=first):
            host = hosts(kind)

            def work():
                with Interposed(killer(first, "after")):
                    host.change()

            in_child(work)
            return host

        settle = count_steps(interrupted, lambda host: transaction.recover(Journal(str(host.state))))
        for second in range(1, len(settle) + 1):
            host = interrupted()

            def again(host=host, second=second):
                with Interposed(killer(second, "before")):  # a call that fails has no "after"
                    transaction.recover(Journal(str(host.state)))

            assert os.WTERMSIG(in_child(again)) == signal.SIGKILL, (first, second, settle)
            assert_only_whole_files(host, old, new)
            assert_settles(host, old, new)
            tried += 1
    assert tried > 30


@pytest.mark.parametrize("kind", ["create", "several"])
def test_kill_at_every_step_of_a_rollback(hosts, kind):
    old, new = ends_of(lambda: hosts(kind))

    def changed():
        host = hosts(kind)
        host.change()
        return host

    steps = count_steps(changed, Host.roll_back)
    for step in range(1, len(steps) + 1):
        host = changed()

        def work(host=host, step=step):
            with Interposed(killer(step, "after")):
                host.roll_back()

        assert os.WTERMSIG(in_child(work)) == signal.SIGKILL
        assert_only_whole_files(host, old, new)
        host.roll_back()
        assert host.snapshot() == old
        assert set(host.times().values()) == {LONG_AGO}


@pytest.mark.parametrize("how", ["once", "from then on"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("kind", ["create", "replace", "remove", "several"])
def test_every_step_fails_once_or_the_disk_is_full_from_there(hosts, kind, error, how):
    old, new = ends_of(lambda: hosts(kind))
    steps = count_steps(lambda: hosts(kind), Host.change)
    for step, name in enumerate(steps, 1):
        if name == "close" or (how == "from then on" and error != errno.ENOSPC):
            continue
        host = hosts(kind)

        def at(number, called, when, args, step=step):
            hit = number == step or (how == "from then on" and number > step and (called in NEEDS_SPACE or (called == "open" and args[1] & os.O_CREAT)))
            if when == "before" and hit:
                raise OSError(error, os.strerror(error), str(args[0]))

        failed = None
        with Interposed(at):
            try:
                result = host.change()
            except AioError as exc:
                failed = exc
        now = {name: found for name, found in host.snapshot().items() if not os.path.basename(name).startswith(files.PREFIX)}
        assert now in (old, new), (step, name)
        if failed is None:
            assert now == new, (step, name)
            assert result["cautions"] or host.snapshot() == new
        else:
            assert host.snapshot() == old, (step, name)
            assert os.strerror(error) in str(failed), failed
        assert_settles(host, old, new)


@pytest.mark.parametrize("kind", ["replace", "several"])
def test_somebody_else_writes_at_every_step(hosts, kind):
    """The other's change stands afterwards, whenever it comes.

    But for the time between the last comparison and the rename, which no file system gives away: the close of the comparison and the rename itself.
    """
    mark = b"# somebody else\n"
    renames = []

    def note(number, name, when, args):
        if when == "before" and name == "rename" and args[1].endswith("one/configuration-qemu.toml"):
            renames.append(number)

    undisturbed = hosts(kind)
    with Interposed(note) as calls:
        undisturbed.change()
    refused = 0
    for step, name in enumerate(calls.names, 1):
        if step in (renames[0] - 1, renames[0]):
            continue
        host = hosts(kind)
        path = host.one / "configuration-qemu.toml"
        done = []

        def at(number, _called, when, _args, step=step, path=path, done=done):  # pylint: disable=dangerous-default-value  # bound per turn of the loop
            if number == step and when == "before":
                done.append(path.read_bytes() + mark)
                with open(str(path) + ".their-new", "wb") as stream:
                    stream.write(done[0])
                os.replace(str(path) + ".their-new", path)

        before = host.snapshot()
        with Interposed(at):
            try:
                host.change()
                failed = False
            except AioError as exc:
                failed = True
                assert "another process changed this" in str(exc)
        assert path.read_bytes().endswith(mark), (step, name)
        assert path.read_bytes() == done[0]
        assert not list(host.root.rglob(files.PREFIX + "*"))
        if failed:
            refused += 1
            now = host.snapshot()
            key = str(path.relative_to(host.root))
            assert {k: v for k, v in now.items() if k != key} == {k: v for k, v in before.items() if k != key}
        host.change()
        assert path.read_bytes() == NEW_BASE
    assert refused > 5


@contextlib.contextmanager
def mounted(folder, size, *more):
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", ",".join(["size=%s" % size, "mode=0755", *more]), "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("no tmpfs can be mounted here: %s" % done.stderr.strip())
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("where", ["kata", "ledger", "both"])
def test_a_disk_that_is_really_full(tmp_path, where):
    """A tmpfs with each number of free pages from none up to enough."""
    outcomes = set()
    for free in range(14):
        with mounted(tmp_path / "disk", "160k") as disk:
            place = tmp_path / ("elsewhere-%s-%d" % (where, free))
            host = Host(place if where == "ledger" else disk / "kata", state=disk / "state" if where != "kata" else place / "state").plant()
            old = host.snapshot()
            page = os.sysconf("SC_PAGE_SIZE")
            usage = os.statvfs(disk)
            with open(disk / "ballast", "wb") as stream:
                stream.write(b"x" * max(0, usage.f_bavail * usage.f_bsize - free * page))
            try:
                host.change()
                outcomes.add("done")
            except AioError as exc:
                outcomes.add("refused")
                assert "No space left on device" in str(exc) and "free some space" in str(exc), exc
                assert host.snapshot() == old
            os.unlink(disk / "ballast")
            host.change()
            host.roll_back()
            assert host.snapshot() == old
    assert outcomes == {"done", "refused"}


@pytest.mark.parametrize("where", ["kata", "ledger"])
def test_a_file_system_that_is_read_only(tmp_path, where):
    with mounted(tmp_path / "disk", "1m") as disk:
        place = tmp_path / "elsewhere"
        host = Host(disk / "kata" if where == "kata" else place, state=place / "state" if where == "kata" else disk / "state").plant()
        old = host.snapshot()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(AioError, match="Read-only file system.*remount") as failure:
            host.change()
        assert str(disk) in str(failure.value)
        assert host.snapshot() == old
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        host.change()
        host.roll_back()
        assert host.snapshot() == old


def test_an_ordinary_user(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    host = Host(tmp_path / "host").plant()
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    os.chmod(host.root, 0o755)
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, 65534, 65534)
    host.state = state / "own"
    host.kind = "create"
    old = host.snapshot()
    read, write = os.pipe()

    def work():
        os.setgid(65534)
        os.setuid(65534)
        try:
            host.change()
        except AioError as exc:
            os.write(write, str(exc).encode())
            raise

    assert os.WEXITSTATUS(in_child(work)) == 1
    os.close(write)
    words = os.read(read, 4096).decode()
    os.close(read)
    assert "Permission denied" in words and "become: true" in words
    assert host.snapshot() == old


def test_two_runs_at_once(hosts):
    """Both computed their change from the same content: one wins, the other is told."""
    for _round in range(8):
        host = hosts("replace")
        mine, other = host.changes(), host.changes()
        other[0]["content_b64"] = base64.b64encode(OLD_BASE.replace(b"io_uring", b"threads")).decode()
        pids = []
        for changes in (mine, other):
            pid = os.fork()
            if pid == 0:
                try:
                    transaction.transact(Journal(str(host.state)), changes, ABOUT)
                    os._exit(0)
                except AioError:
                    os._exit(1)
            pids.append(pid)
        assert sorted(os.WEXITSTATUS(os.waitpid(pid, 0)[1]) for pid in pids) == [0, 1]
        assert len(Journal(str(host.state)).entries()) == 1


def edit(path):
    path.write_bytes(path.read_bytes() + b"# edited by an administrator\n")


def copy_again(path):
    path.unlink()
    path.write_bytes(b"# a new release\n" + OLD_BASE)


def change_mode(path):
    path.chmod(0o604)


def remove(path):
    path.unlink()


def move(path):
    (path.parent / "runtimes").mkdir()
    (path.parent / "runtimes/configuration.toml").write_bytes(b"# moved\n" + OLD_BASE)
    path.unlink()
    path.symlink_to("runtimes/configuration.toml")


def look(path):
    return (path.is_symlink(), stat.S_IMODE(path.stat().st_mode), path.read_bytes()) if path.exists() else None


@pytest.mark.parametrize("others", [edit, copy_again, change_mode, remove, move], ids=lambda action: action.__name__)
@pytest.mark.parametrize("which", ["one/configuration-qemu.toml", "one/config.d/60-kataops-aio.toml", "two/config.d/60-kataops-aio.toml"])
def test_kill_at_every_step_and_another_program_acts_before_the_next_run(hosts, which, others):
    """What others did stays; nothing counts as reverted that was not; everything else is old or new; and all of ours can be rolled back."""
    old, new = ends_of(lambda: hosts("several"))
    steps = count_steps(lambda: hosts("several"), Host.change)
    acted = 0
    for step in range(1, len(steps) + 1):
        host = hosts("several")

        def work(host=host, step=step):
            with Interposed(killer(step, "after")):
                host.change()

        assert os.WTERMSIG(in_child(work)) == signal.SIGKILL
        path = host.root / which
        if not path.exists():
            continue
        was = path.read_bytes()
        others(path)
        acted += 1
        theirs = look(path)
        journal = Journal(str(host.state))
        assert "unsettled" not in [entry["outcome"] for entry in transaction.recover(journal)], (step, steps[step - 1])
        assert look(path) == theirs, (step, steps[step - 1])
        assert journal.pending() == [] and not list(host.root.rglob(files.PREFIX + "*"))
        mine = [name for name in new if name != which and not (host.root / name).is_dir()] + [name for name in old if name not in new and name != which]
        rest = {name: host.snapshot().get(name) for name in mine}
        assert rest in ({name: old.get(name) for name in mine}, {name: new.get(name) for name in mine}), (step, steps[step - 1])
        ours = path.exists() and not path.is_symlink() and was in (NEW_BASE, DROP_IN) and was in path.read_bytes()
        claimed = [name for _kind, name in journal.standing()]
        assert not ours or str(path) in claimed, "our content is there, and the journal does not know of it"
        result = rollback.roll_back(journal, ABOUT)
        assert {name: host.snapshot().get(name) for name in mine} == {name: old.get(name) for name in mine}, (step, steps[step - 1])
        if others is not change_mode and not (others is remove and which not in new):  # who removed what we removed, too, cannot be told
            assert look(path) == theirs, (step, steps[step - 1])
        assert [left["name"] for left in result["left"]] in ([], [str(path)])
        rollback.roll_back(journal, ABOUT, force=True)
        if ours:
            before = old.get(which)
            assert (path.read_bytes() if path.exists() else None) == (before[2] if before else None)
        assert journal.standing() == {}
    assert acted > 10


def test_a_read_only_file_system_below_one_file_blocks_only_that_file(tmp_path):
    with mounted(tmp_path / "disk", "1m") as disk:
        good = Host(tmp_path / "good", kind="create").plant()
        bad = Host(disk / "bad", state=good.state, kind="create").plant()
        old = good.snapshot(), bad.snapshot()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        journal = Journal(str(good.state))
        with pytest.raises(AioError, match="Read-only file system"):
            transaction.transact(journal, good.changes() + bad.changes(), ABOUT)
        assert (good.snapshot(), bad.snapshot()) == old
        assert good.change()["changed"] and journal.pending() == []
        assert good.roll_back()["changed"] and good.snapshot() == old[0]
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        good.change()
        bad.change()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        result = rollback.roll_back(journal, ABOUT)
        assert good.snapshot() == old[0] and result["changed"]
        (left,) = result["left"]
        assert str(disk) in left["name"] and "Read-only" in left["reason"]
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        rollback.roll_back(journal, ABOUT)
        assert bad.snapshot() == old[1] and journal.standing() == {}

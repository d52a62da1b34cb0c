# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The limits: raised live and for the next boot in one transaction, never lowered, and rolled back without what others wrote being lost."""

from __future__ import annotations

import pytest
from ansible_collections.kataops.aio.plugins.module_utils import _aio_limits as limits
from ansible_collections.kataops.aio.plugins.module_utils import _journal
from ansible_collections.kataops.aio.plugins.module_utils._change import transaction, values
from ansible_collections.kataops.aio.plugins.module_utils._change.journal import Journal
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError

ABOUT = {"tool": "aio_limits", "kind": "change"}


class Host:
    """A root folder with sysctl files, and a folder in the place of /proc/sys."""

    def __init__(self, root):
        self.root = root
        (root / "proc/fs").mkdir(parents=True)
        (root / "proc/kernel").mkdir()
        (root / "etc/sysctl.d").mkdir(parents=True)
        self.live("fs/aio-max-nr", "65536")
        self.live("kernel/io_uring_disabled", "2")
        self.journal = Journal(str(root / "state"))

    def live(self, name, value=None):
        path = self.root / "proc" / name
        if value is not None:
            path.write_text(value + "\n", encoding="ascii")
        return path.read_text(encoding="ascii").strip()

    def file(self, name="60-kataops-aio.conf", text=None):
        path = self.root / "etc/sysctl.d" / name
        if text is not None:
            path.write_text(text, encoding="utf-8")
        return path.read_text(encoding="utf-8") if path.exists() else None

    def apply(self, wanted=1048576, io_uring=False, check=False):
        return limits.raise_limits(self.journal, limits.requests(wanted, io_uring, str(self.root)), ABOUT, check)

    def roll_back(self, force=False, check=False):
        return _journal.roll_back(self.journal, {"transaction": None, "tools": [], "runtimes": [], "force": force}, check)


@pytest.fixture
def host(tmp_path, monkeypatch):
    monkeypatch.setattr(values, "PROC_SYS", str(tmp_path / "proc"))
    return Host(tmp_path)


def test_raised_once_and_rolled_back(host):
    foreseen = host.apply(check=True)
    assert foreseen["changed"] and host.live("fs/aio-max-nr") == "65536" and host.file() is None and not (host.root / "state").exists()
    assert [part["after"] for part in foreseen["diff"]] == ["fs.aio-max-nr = 1048576\n", limits.sysctl_text(1048576, False)]
    assert host.apply()["changed"] and host.live("fs/aio-max-nr") == "1048576" and "fs.aio-max-nr = 1048576" in host.file()
    assert host.apply()["changed"] is False
    assert host.roll_back()["changed"] and host.live("fs/aio-max-nr") == "65536" and host.file() is None
    assert host.roll_back()["changed"] is False


def test_never_lowered(host):
    host.live("fs/aio-max-nr", "3145728")
    host.file("50-db.conf", "fs.aio-max-nr = 2000000\n")
    host.apply()
    assert host.live("fs/aio-max-nr") == "3145728" and "fs.aio-max-nr = 2000000" in host.file()


def test_a_file_that_was_there_comes_back_with_its_bytes_and_mode(host):
    path = host.root / "etc/sysctl.d/60-kataops-aio.conf"
    path.write_bytes(b"fs.aio-max-nr = 65536\n# \xff\xfe")
    path.chmod(0o640)
    host.apply()
    host.roll_back()
    assert path.read_bytes() == b"fs.aio-max-nr = 65536\n# \xff\xfe" and path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(("value", "words"), [("65536", "to 65536 at boot"), ("many", "a value that is not a number at boot")])
def test_a_file_that_is_applied_later_and_sets_less_is_named_before_anything_changes(host, value, words):
    host.file("99-admin.conf", "fs.aio-max-nr = %s\n" % value)
    with pytest.raises(AioError, match="99-admin.conf.*%s" % words):
        host.apply()
    assert host.live("fs/aio-max-nr") == "65536" and host.file() is None


def test_io_uring_only_on_request(host):
    host.apply()
    assert host.live("kernel/io_uring_disabled") == "2" and "io_uring" not in host.file()
    host.apply(io_uring=True)
    assert host.live("kernel/io_uring_disabled") == "0" and "kernel.io_uring_disabled = 0" in host.file()
    host.roll_back()
    assert (host.live("fs/aio-max-nr"), host.live("kernel/io_uring_disabled"), host.file()) == ("65536", "2", None)
    host.file("99-hardening.conf", "kernel.io_uring_disabled = 2\n")
    with pytest.raises(AioError, match="99-hardening.conf.*io_uring_disabled to 2 at boot"):
        host.apply(io_uring=True)


def test_an_edit_of_our_file_is_kept_at_rollback(host):
    host.apply()
    host.file(text=host.file() + "vm.swappiness = 10\n")
    result = host.roll_back()
    assert host.file() == "vm.swappiness = 10\n" and not result["left"] and host.live("fs/aio-max-nr") == "65536"
    assert host.roll_back()["changed"] is False and host.file() == "vm.swappiness = 10\n"


def test_a_comment_alone_does_not_keep_our_file(host):
    host.apply()
    host.file(text="# seen on Monday\n" + host.file())
    host.roll_back()
    assert host.file() is None


def test_a_limit_that_was_set_again_by_others_stays(host):
    host.apply()
    host.live("fs/aio-max-nr", "2000000")
    host.file(text="fs.aio-max-nr = 2000000\n")
    result = host.roll_back()
    assert host.live("fs/aio-max-nr") == "2000000" and host.file() == "fs.aio-max-nr = 2000000\n"
    assert any("stays at 2000000" in note for note in result["notes"]) and not result["left"]


def test_a_reboot_in_between_is_no_trouble(host):
    """Live values are those of the boot files then, so nothing of ours is live any more if the file is gone."""
    host.apply()
    host.live("fs/aio-max-nr", "65536")
    host.roll_back()
    assert host.live("fs/aio-max-nr") == "65536" and host.file() is None


def test_a_kernel_that_refuses_the_value_leaves_no_file(host):
    def refuse(name, state):
        raise AioError("the kernel refused the value %s" % state["value"], name)

    with pytest.MonkeyPatch.context() as patched, pytest.raises(AioError, match="the kernel refused"):
        patched.setattr(values, "_write", refuse)
        host.apply()
    assert host.file() is None and host.live("fs/aio-max-nr") == "65536"
    assert transaction.recover(host.journal) == [] and host.journal.standing() == {}


def test_a_kernel_without_linux_aio(host):
    (host.root / "proc/fs/aio-max-nr").unlink()
    with pytest.raises(AioError, match="no Linux AIO"):
        host.apply()

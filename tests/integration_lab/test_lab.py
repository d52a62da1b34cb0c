# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab and the demo take nothing away that is not this checkout's, and tell a user what is wrong in one sentence."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests" / "lab"))

from kataops_lab import demo, images  # noqa: E402 - the lab is no part of the collection
from kataops_lab.podman import podman  # noqa: E402
from kataops_lab.shell import LabError  # noqa: E402

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="podman's images are root's")


@pytest.fixture
def two_images():
    """Two small images, one of which a container uses: (name of the used one, of the free one, the container)."""
    tree = io.BytesIO()
    with tarfile.open(fileobj=tree, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("file"))
    names = [f"localhost/kataops-aio-test-forget-{os.getpid()}:{which}" for which in ("used", "free")]
    for name in names:
        podman("import", "--quiet", "--message", name, "-", name, stdin=tree.getvalue())
    container = podman("create", names[0], "/nothing").stdout.strip()
    yield *names, container
    podman("rm", "-f", container, check=False)
    for name in names:
        podman("rmi", name, check=False)


@ROOT
def test_images_that_a_host_runs_on_stay_and_so_does_the_host(two_images):
    used, free, container = two_images
    assert images.forget(used.rpartition(":")[0]) == [used]
    assert podman("image", "exists", free, check=False).returncode == 1
    assert podman("container", "exists", container, check=False).returncode == 0


@ROOT
def test_an_ordinary_user_is_told_to_be_root(tmp_path):
    tmp_path.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "KATAOPS_CACHE": "/nonexistent/cache"}
    for command in ("remediate", "audit", "rollback"):
        done = subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", str(TOP / "tests" / "lab" / "demo"), command],
            capture_output=True, text=True, env=environment, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.startswith("demo: a disposable host needs root")
        assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize("job", ["remediate", "audit", "rollback"])
def test_a_missing_inventory_is_told_before_anything_is_installed(job):
    done = subprocess.run([str(TOP / "tests" / "lab" / "demo"), job, "--inventory", "nowhere.yml"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr == (f"demo: the inventory nowhere.yml does not exist; expected a path, absolute or relative to {TOP}: INVENTORY=/path/inventory.yml\n")


def test_a_report_of_an_earlier_run_is_not_this_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "REPORT", tmp_path)
    path = tmp_path / "kata-aio-report.html"
    assert demo.tell_report(100.0, 0, []) == 1
    path.write_text("")
    os.utime(path, (50, 50))
    assert demo.tell_report(100.0, 0, []) == 1
    assert demo.tell_report(100.0, 4, []) == 4
    assert str(path) not in capsys.readouterr().out
    os.utime(path, (150, 150))
    assert demo.tell_report(100.0, 2, []) == 2
    assert str(path) in capsys.readouterr().out
    path.unlink()
    assert demo.tell_report(100.0, 0, ["--list-hosts"]) == 0


@pytest.mark.parametrize(
    "text",
    ["/opt/kataops/qemu/qemu-7.2+dfsg-7+deb12u18-x86_64-static-2c81932e23ad/bin/qemu-system-x86_64 (7.2.22)", "a b", "", "word" * 40, "to the end / of it"],
)
def test_a_table_breaks_neither_words_nor_file_names(text):
    lines = demo.wrapped(text, 52)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(len(line) <= 52 or not {" ", "/"} & set(line[:-1]) for line in lines)
    for line in lines[:-1]:
        assert line.endswith("/") or f"{line} " in text


def test_an_error_is_a_lab_error():
    with pytest.raises(LabError, match=r"false failed \(code 1\)"):
        demo.shown("false")

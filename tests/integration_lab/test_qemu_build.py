# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role qemu_build on a disposable builder: the same bytes wherever it builds, taken up after a cut, other sources, and failures that are told.

The first artifact is the one that the lab built already (its variant static-both has the role's defaults). It is built a second time in another folder,
with an empty compiler cache, on a builder that has a C++ compiler besides.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
LAB = CHECKOUT / "tests" / "lab"
HOST = "build-test"
pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif("KATAOPS_LAB_QEMUS" not in os.environ, reason="KATAOPS_LAB_QEMUS is not set: the lab has built no QEMU"),
    pytest.mark.skipif(not shutil.which("podman"), reason="a disposable builder needs podman"),
]
KEPT = Path(os.environ.get("KATAOPS_CACHE", Path.home() / ".cache" / "kataops-aio")) / "artifacts"


@pytest.fixture(scope="module")
def builder():
    """Its inventory."""
    subprocess.run([LAB / "lab", "up", "--fresh", "--builder", HOST], check=True, stdout=subprocess.PIPE)
    try:
        yield CHECKOUT / ".cache" / "lab" / "inventory.yml"
    finally:
        subprocess.run([LAB / "lab", "down", HOST], check=True, stdout=subprocess.PIPE)


def on_builder(command):
    return subprocess.run([LAB / "lab", "ssh", HOST, command], check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL).stdout.decode()


@pytest.fixture
def role(builder, tmp_path):
    """``role(variables)`` runs it to its end: (exit status, output, its fact or None). ``role.start(variables)`` only starts it."""

    class Role:
        answer = tmp_path / "answer.json"

        def start(self, variables):
            self.answer.unlink(missing_ok=True)
            variables = {"lab_answer": str(self.answer), **variables}
            command = [Path(sys.executable).parent / "ansible-playbook", "-i", builder, "--limit", HOST, "-e", json.dumps(variables), LAB / "build_qemu.yml"]
            environment = {**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "PYTHONUNBUFFERED": "1"}
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, cwd=CHECKOUT, text=True,
                start_new_session=True,
            )  # fmt: skip

        def __call__(self, variables):
            process = self.start(variables)
            output, _unused = process.communicate(timeout=3600)
            return process.returncode, output, json.loads(self.answer.read_text()) if self.answer.exists() else None

    return Role()


def kill_with_children(pid):
    """As a controller ends that loses its power: ansible-playbook's workers have process groups of their own, and would go on without it."""
    os.kill(pid, signal.SIGSTOP)
    for child in subprocess.run(["pgrep", "-P", str(pid)], stdout=subprocess.PIPE, check=False).stdout.split():
        kill_with_children(int(child))
    os.kill(pid, signal.SIGKILL)


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_the_same_bytes_from_another_folder_after_the_controller_was_killed(role, tmp_path):
    code, output, first = role({"qemu_build_artifacts_dir": str(KEPT)})
    assert code == 0, output
    on_builder("DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends g++ >/dev/null && c++ --version")
    sources = on_builder("find /etc/apt -type f -exec sha256sum {} + | sort")
    work = "/srv/another/and-deeper"
    other = {"qemu_build_artifacts_dir": str(tmp_path / "artifacts"), "qemu_build_work_dir": work, "qemu_build_cache_dir": "/var/tmp/empty"}

    process = role.start(other)
    seen = []
    for line in process.stdout:
        seen.append(line)
        if re.search(r"\[\d+/\d+\] \d+ %", line):
            break
    else:
        pytest.fail("".join(seen))
    kill_with_children(process.pid)
    process.wait()
    folder = "'%s/%s'" % (work, first["id"])
    session = on_builder("cat %s/session" % folder)
    assert on_builder("ps -o pid= --sid %s | wc -l" % session.strip()).strip() != "0"

    code, output, second = role(other)
    assert code == 0, output
    assert on_builder("cat %s/session" % folder) == session
    assert on_builder("grep -c '@@ .* source' %s/log" % folder).strip() == "1"
    assert second["built"] is True
    assert second["id"] == first["id"]
    assert sha256(second["artifact"]["path"]) == second["artifact"]["sha256"] == first["artifact"]["sha256"]
    assert on_builder("find /etc/apt -type f -exec sha256sum {} + | sort") == sources
    assert (tmp_path / "artifacts" / "logs" / ("%s.log" % first["id"])).stat().st_size > 10000

    # Hardened as asked for: the loader's tables become read-only, the stack is not executable.
    binary = "%s/bin/qemu-system-x86_64" % first["id"]
    segments = on_builder("tar -xJOf %s/%s.tar.xz %s >/tmp/q && readelf -lW /tmp/q; rm /tmp/q" % (folder, first["id"], binary))
    assert "GNU_RELRO" in segments
    assert re.search(r"GNU_STACK .* RW +0x", segments)

    started = time.monotonic()
    code, output, third = role(other)
    assert (code, third["built"], third["artifact"]) == (0, False, second["artifact"]), output
    assert "changed=0" in output
    assert time.monotonic() - started < 120

    # An artifact that was harmed on the controller is none; it is still on the builder, so it is only fetched again.
    with open(second["artifact"]["path"], "ab") as handle:
        handle.write(b"x")
    code, output, fourth = role(other)
    assert (code, fourth["artifact"]) == (0, second["artifact"]), output
    assert sha256(fourth["artifact"]["path"]) == second["artifact"]["sha256"]
    assert on_builder("cat %s/session" % folder) == session


@pytest.fixture(scope="module")
def tarball(builder, tmp_path_factory):
    """The distribution's source as a release tarball would be: one top folder."""
    folder = tmp_path_factory.mktemp("tarball")
    path = folder / "qemu-7.2.22.tar.xz"
    apt = "-o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=$PWD/apt -o Dir::State::lists=$PWD/lists -o APT::Sandbox::User=root"
    on_builder(
        "set -e; mkdir -p /root/t/apt /root/t/lists/partial; cd /root/t; sed 's/^deb /deb-src /' /etc/apt/sources.list > apt/sources.list || true;"
        " for f in /etc/apt/sources.list.d/*.sources; do [ -e $f ] && sed 's/^Types:.*/Types: deb-src/' $f > apt/${f##*/}; done;"
        " mv apt/sources.list apt/s.list; apt-get -qq %s update; apt-get -qq %s --download-only source qemu;"
        " dpkg-source --no-check --no-copy --extract *.dsc qemu-7.2.22; tar -cJf qemu.tar.xz --mtime=@1700000000 qemu-7.2.22" % (apt, apt)
    )
    with open(path, "wb") as handle:
        subprocess.run([LAB / "lab", "ssh", HOST, "cat /root/t/qemu.tar.xz"], check=True, stdout=handle, stdin=subprocess.DEVNULL)
    return {
        "qemu_build_source": "tarball",
        "qemu_build_version": "7.2.22",
        "qemu_build_tarball_path": str(path),
        "qemu_build_tarball_sha256": sha256(path),
    }


@pytest.fixture(scope="module")
def signed(tarball, tmp_path_factory):
    """A keyring, and the tarball's signature with it."""
    if not shutil.which("gpg"):
        pytest.skip("no gpg on this machine")
    home = tmp_path_factory.mktemp("gnupg")
    home.chmod(0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
    subprocess.run([*gpg, "--quick-generate-key", "lab@example.org", "ed25519", "sign", "never"], check=True)
    signature = home / "signature"
    subprocess.run([*gpg, "--detach-sign", "--output", str(signature), tarball["qemu_build_tarball_path"]], check=True)
    keyring = home / "keyring"
    keyring.write_bytes(subprocess.run([*gpg, "--export"], check=True, stdout=subprocess.PIPE).stdout)
    return {"qemu_build_tarball_signature": str(signature), "qemu_build_keyring": str(keyring)}


PATCH = """--- a/VERSION
+++ b/VERSION
@@ -1 +1 @@
-%s
+7.2.99
"""


def test_a_signed_tarball_with_a_patch(role, tarball, signed, tmp_path):
    patch = tmp_path / "version.patch"
    patch.write_text(PATCH % "7.2.22")
    code, output, made = role({**tarball, **signed, "qemu_build_patches": [str(patch)], "qemu_build_artifacts_dir": str(tmp_path / "artifacts")})
    assert code == 0, output
    assert made["id"].startswith("qemu-7.2.22-x86_64-static-")
    with tarfile.open(made["artifact"]["path"]) as archive:
        manifest = json.load(archive.extractfile("%s/manifest.json" % made["id"]))
        bill = json.load(archive.extractfile("%s/sbom.cdx.json" % made["id"]))
    assert manifest["version"] == "7.2.99"
    assert manifest["patches"] == [sha256(patch)]
    assert manifest["source"]["sha256"] == tarball["qemu_build_tarball_sha256"]
    assert "libaio-dev" in [component["name"] for component in bill["components"]]


def test_a_commit_of_a_git_repository(role, tarball, tmp_path):
    commit = on_builder(
        "set -e; export DEBIAN_FRONTEND=noninteractive; apt-get install -qq --no-install-recommends git >/dev/null; cd /root/t/qemu-7.2.22;"
        " export GIT_AUTHOR_DATE='@1700000000 +0000' GIT_COMMITTER_DATE='@1700000000 +0000'; git init -q; git add -Af .;"
        " git -c user.name=lab -c user.email=lab@example.org commit -qm source; git rev-parse HEAD"
    ).split()[-1]
    source = {"qemu_build_source": "git", "qemu_build_version": "7.2.22", "qemu_build_git_repository": "file:///root/t/qemu-7.2.22"}
    code, output, _unused = role({**source, "qemu_build_git_commit": "v7.2.22", "qemu_build_artifacts_dir": str(tmp_path / "artifacts")})
    assert code != 0
    assert "40 hexadecimal digits; a tag can be moved" in output
    code, output, made = role({**source, "qemu_build_git_commit": commit, "qemu_build_artifacts_dir": str(tmp_path / "artifacts")})
    assert code == 0, output
    manifest = json.loads(Path(made["artifact"]["manifest_path"]).read_text())
    assert (manifest["source"]["kind"], manifest["source"]["sha256"], manifest["source_date_epoch"]) == ("git", commit, 1700000000)


def test_a_wrong_signature_stops_before_the_build(role, tarball, signed, tmp_path):
    forged = tmp_path / "forged"
    signature = Path(signed["qemu_build_tarball_signature"]).read_bytes()
    forged.write_bytes(signature[:-1] + bytes([signature[-1] ^ 1]))
    variables = {**tarball, **signed, "qemu_build_tarball_signature": str(forged), "qemu_build_artifacts_dir": str(tmp_path / "artifacts")}
    code, output, _unused = role(variables)
    assert code != 0
    assert "BAD signature" in output or "Can't check signature" in output
    assert list(tmp_path.glob("artifacts/*.tar.xz")) == []


def test_a_patch_that_does_not_apply_is_told_with_the_log(role, tmp_path):
    patch = tmp_path / "version.patch"
    patch.write_text(PATCH % "1.2.3")
    code, output, _unused = role({"qemu_build_patches": [str(patch)], "qemu_build_artifacts_dir": str(tmp_path / "artifacts")})
    assert code != 0
    assert "the build failed in its phase patches" in output
    assert "Hunk #1 FAILED" in output
    (log,) = (tmp_path / "artifacts" / "logs").iterdir()
    assert str(log) in output
    assert "Hunk #1 FAILED" in log.read_text()
    assert list(tmp_path.glob("artifacts/*.tar.xz")) == []


def test_a_result_that_lacks_what_was_asked_for_becomes_no_artifact(role, tmp_path):
    """The user's own configure arguments come last: here they switch off what the engines ask for. The configure step is content, the binary tells."""
    variables = {"qemu_build_configure_extra": ["--disable-linux-aio"], "qemu_build_artifacts_dir": str(tmp_path / "artifacts")}
    code, output, _unused = role(variables)
    assert code != 0
    assert "becomes no artifact: native was asked for, and is not built in" in output
    assert list(tmp_path.glob("artifacts/*.tar.xz")) == []


def test_a_tarball_without_a_place_is_qemus_own_and_nothing_without_its_checksum(role, tmp_path):
    """Where the site answers, its tarball has another checksum than this one; where it does not, it cannot be fetched."""
    variables = {"qemu_build_source": "tarball", "qemu_build_version": "8.2.4", "qemu_build_tarball_sha256": "0" * 64}
    code, output, _unused = role({**variables, "qemu_build_artifacts_dir": str(tmp_path / "artifacts")})
    assert code != 0
    assert "https://download.qemu.org/qemu-8.2.4.tar.xz" in output
    assert on_builder("find / -xdev -name '%s*' | wc -l" % ("0" * 64)).strip() == "0"

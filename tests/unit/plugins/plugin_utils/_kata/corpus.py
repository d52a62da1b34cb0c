# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of which Kata's own loaders have said what they make of them, and the comparison with what the collection says.

The hosts lie outside the project, in ``../shared/kata-loader-cases`` (or where ``KATAOPS_LOADER_CASES`` says): one folder each, with the files relative to
``/``, and ``truth.json``. Where there are none the tests that use them skip. To use::

    @pytest.mark.parametrize("case", corpus.cases(), ids=str)
    def test_x(case, tmp_path):
        root = case.build(tmp_path)               # the host's tree; what the configurations name exists, the CRI's shims too
        kata = corpus.observe(root)               # both round trips, as on the wire
        ...                                       # change the tree, or patch kata (preview.patched), and observe again
        for wired in case.runtimes:
            assert corpus.differences(corpus.judged(kata, wired), wired["as_found"]) == []

``wired["as_found"]`` is a list of the distinct answers of the loader over several runs. For a state after a change take the loader's answer for that state;
after a rollback the state is ``as_found`` again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import typing as t
from pathlib import Path

from ansible_collections.kataops.aio.plugins.module_utils._kata.collect import collect
from ansible_collections.kataops.aio.plugins.plugin_utils._kata import discover as discovery
from ansible_collections.kataops.aio.plugins.plugin_utils._kata import releases
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.discover import discover, missing_documents
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.documents import Host

PROJECT = Path(__file__).resolve().parents[5]
CASES = Path(os.environ.get("KATAOPS_LOADER_CASES") or PROJECT.parent / "shared" / "kata-loader-cases")
NOT_THE_HOSTS = ("truth.json", "pre.sh", "afterwards.txt", "observed.json")
_PATH = re.compile(r"""["'](/[^"'\n]*)["']""")


class Case:
    """One host of the corpus."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
        self.runtimes: list[dict[str, t.Any]] = self.truth["runtimes"]

    def __str__(self) -> str:
        return self.folder.name

    def build(self, root: Path) -> Path:
        """The host below a folder."""
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder)
            if path.is_dir() or str(name) in NOT_THE_HOSTS:
                continue
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target, follow_symlinks=False)
            if not target.is_symlink():
                target.chmod(0o644)
            if name.suffix == ".truncated":
                grow(target)
            elif name.suffix == ".toml" and not target.is_symlink():
                shipped_link(target)
        self._existing(root)
        self._prepare(root)
        return root

    def _existing(self, root: Path) -> None:
        """The shims of the CRI, and what the configurations name: kernel, image, QEMU."""
        for path in list(root.rglob("*")):
            if not path.is_file() or path.suffix != ".toml":
                continue
            for name in _PATH.findall(path.read_text(encoding="utf-8", errors="replace")):
                target = root / name.lstrip("/")
                if not name.endswith((".toml", "/")) and not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(b"x")
                    target.chmod(0o755)

    def _prepare(self, root: Path) -> None:
        """What ``pre.sh`` does to the host's files: removed files, and a file whose name is not UTF-8. Mounts need root and are left out."""
        script = self.folder / "pre.sh"
        words = script.read_text(encoding="utf-8") if script.exists() else ""
        for name in re.findall(r"rm -f (\S+)", words):
            (root / name.lstrip("/")).unlink(missing_ok=True)
        match = re.search(r"os\.fsencode\('([^']+)'\)\+b'([^']+)','w'\)\.write\('(.*)'\)", words)
        if match:
            folder = root / match.group(1).lstrip("/")
            folder.mkdir(parents=True, exist_ok=True)
            name = os.fsencode(folder) + b"/" + match.group(2).encode().decode("unicode_escape").encode("latin-1")
            with open(name, "w", encoding="utf-8") as stream:
                stream.write(match.group(3).replace("\\n", "\n").replace('\\"', '"'))


def grow(path: Path) -> None:
    """A file of which the corpus has the beginning: as large as it was, filled with comments. The rest of a base file is what all of them have."""
    text = path.read_text(encoding="utf-8")
    beginning, size = re.fullmatch(r"(.*?)\.\.\. \((\d+) bytes\)\n?", text, re.S).groups()
    lines = beginning.split("\n")
    lines.pop()  # it may be cut off
    body = "\n".join(lines) + "\n"
    if "virtio_fs_daemon" not in body and 'shared_fs = "virtio-fs"' in body:
        body += 'virtio_fs_daemon = "/opt/kata/libexec/virtiofsd"\n'
    filler = "# " + "x" * 100 + "\n"
    body += filler * ((int(size) - len(body)) // len(filler) + 1)
    path.with_suffix("").write_text(body, encoding="utf-8")
    path.unlink()


def shipped_link(path: Path) -> None:
    """The corpus holds a symbolic link as a file with the link's target as its only line."""
    text = path.read_text(encoding="utf-8", errors="replace").strip()
    if "\n" not in text and text.endswith(".toml") and "=" not in text:
        path.unlink()
        path.symlink_to(text)


def cases() -> list[Case]:
    """Every host of the corpus; none where there is no corpus."""
    return [Case(path.parent) for path in sorted(CASES.glob("*/truth.json"))]


def observe(root: Path) -> dict[str, t.Any]:
    """What the host half sends, after both round trips."""
    kata = json.loads(json.dumps(collect(str(root))))
    wanted = missing_documents(kata)
    return json.loads(json.dumps(collect(str(root), wanted=wanted))) if wanted else kata


def judged(kata: dict[str, t.Any], wired: dict[str, t.Any]) -> dict[str, t.Any]:
    """What the collection says of one of ``case.runtimes``; where no handler leads to its base file, what it says of that file and its config.d."""
    for runtime in discover(kata):
        if wired["handler"] in runtime["handlers"]:
            return runtime
    host = Host(kata)
    real = host.resolve(wired["base_file"])
    release = releases.NEWEST_KNOWN if wired["release"] == "HEAD" else wired["release"]
    return discovery.read_runtime(host, real or wired["base_file"], wired["runtime"], release)


def differences(runtime: dict[str, t.Any], answers: list[dict[str, t.Any]]) -> list[str]:
    """What the collection says otherwise than the loader; empty where both agree, or where the collection says that it does not know."""
    if runtime["unknown"] is not None:
        return []
    if len(answers) > 1:
        return ["the loader answers at random, and the collection claims to know"]
    answer = answers[0]
    if runtime["refused"] == answer["accepted"]:
        return ["refused: %s; the loader: %s" % (runtime["refused"], answer.get("error") or "accepted")]
    if runtime["refused"]:
        return []
    if (runtime["hypervisor"] or "") != answer["hypervisor"]:
        return ["hypervisor: %r; the loader: %r" % (runtime["hypervisor"], answer["hypervisor"])]
    if runtime["hypervisor"] != "qemu":
        return []
    return [
        "%s: %r; the loader: %r" % (key, runtime["values"].get(key), value)
        for key, value in answer["values"].items()
        if value is not None and runtime["values"].get(key) != value
    ]

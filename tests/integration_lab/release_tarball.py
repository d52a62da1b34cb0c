# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes tarballs in the layout of Kata's releases (kata-static-<release>-<arch>.tar.*) out of the lab's test QEMUs."""

from __future__ import annotations

import shutil
import subprocess
import tarfile


def kata_static(folder, qemus, variant, compress):
    """The path of a tarball of Kata 3.8.0, with more in it than is taken.

    :arg folder: where it is made; what is packed stays below its ``root``. :arg qemus: the lab's folder of QEMUs. :arg variant: one of them.
    :arg compress: the compressor's command.
    """
    root = folder / "root" / "opt" / "kata"
    (root / "bin").mkdir(parents=True)
    shutil.copy(qemus / variant, root / "bin" / "qemu-system-x86_64")
    (root / "bin" / "containerd-shim-kata-v2").write_text("not taken", encoding="ascii")
    shutil.copytree(qemus / "firmware", root / "share" / "kata-qemu" / "qemu")
    (root / "VERSION").write_text("3.8.0\n", encoding="ascii")
    plain = folder / "kata-static-3.8.0-amd64.tar"
    with tarfile.open(plain, "w") as archive:
        archive.add(folder / "root" / "opt", "./opt")
    subprocess.run([*compress, str(plain)], check=True)
    (path,) = folder.glob("kata-static-3.8.0-amd64.tar.*")
    return path

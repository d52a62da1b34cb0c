# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Planted faults as data: plants/<name>/root is copied onto the host as it is, plants/<name>/plant.toml names what is no text."""

from __future__ import annotations

import io
import tarfile
import tomllib
from pathlib import Path

from . import qemus
from .hosts import address, container
from .places import LAB
from .podman import podman
from .shell import LabError, timed

PLANTS = LAB / "plants"


def names():
    return sorted(path.parent.name for path in PLANTS.glob("*/plant.toml"))


def description(name):
    """The plant's data: description, and lists qemu [{variant, path}] and firmware [{path}]."""
    if name not in names():
        raise LabError(f"unknown plant '{name}'; known: {', '.join(names())}")
    return tomllib.loads((PLANTS / name / "plant.toml").read_text())


def add(archive, target, source, mode=None):
    """Adds a file, link or folder of this machine as root's."""
    entry = archive.gettarinfo(str(source), arcname=str(target).lstrip("/"))
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    if not entry.issym():
        entry.mode = mode or (0o755 if entry.isdir() or entry.mode & 0o100 else 0o644)
    if entry.isreg():
        with open(source, "rb") as content:
            archive.addfile(entry, content)
    else:
        archive.addfile(entry)


def archive_of(name):
    """The plant as a tar archive (bytes) for the root folder of a host."""
    plant = description(name)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        root = PLANTS / name / "root"
        for source in sorted(root.rglob("*")):
            add(archive, source.relative_to(root), source)
        for qemu in plant.get("qemu", ()):
            add(archive, qemu["path"], qemus.binary(qemu["variant"]), mode=0o755)
        for firmware in plant.get("firmware", ()):
            for source in sorted(qemus.firmware().iterdir()):
                add(archive, Path(firmware["path"]) / source.name, source)
    return buffer.getvalue()


def plant(name, host):
    address(host)  # says so when the host is not up
    content = archive_of(name)
    with timed(f"planting {name} on {host}"):
        podman("exec", "-i", container(host), "tar", "--extract", "--no-overwrite-dir", "--directory=/", stdin=content)

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real QEMU binaries that plants and tests need. The collection's own role qemu_build makes them, on a disposable builder."""

from __future__ import annotations

import datetime
import functools
import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

from .hosts import container, down, up, write_inventory
from .images import image, mmdebstrap
from .places import CHECKOUT, LAB, STATE, cache, cached, digest, in_use, locked
from .podman import podman
from .shell import LabError, run, say, shown, timed

# What each variant asks of the role qemu_build (its documented variables)
BUILDS = {
    "static-none": {"qemu_build_engines": []},
    "static-both": {"qemu_build_engines": ["native", "io_uring"]},
    # Its libraries lie beside it in lib/, so that the machine needs none of them
    "dynamic-aio": {
        "qemu_build_engines": ["native"],
        "qemu_build_linkage": "dynamic",
        "qemu_build_configure_extra": ["--extra-ldflags=-Wl,--disable-new-dtags -Wl,-rpath,$ORIGIN/lib"],
    },
}
# Root folders with a distribution's own QEMU, by Debian suite: 10.0, whose engines fall back to threads without a word, and 10.2 or newer,
# which refuses io_uring again
ROOTS = {"debian13-root": "trixie", "newest-root": "forky"}
ROOT_PACKAGES = "qemu-system-x86,qemu-utils"
BUILDER = "qemu-builder"
BUILDER_GROUP = "kata_aio_builders"
# Part of the C library belongs to the machine's own loader
LIBC = ("ld-linux", "libc.so", "libm.so", "libpthread.so", "libdl.so", "librt.so", "libresolv.so")


def known():
    return [*BUILDS, *ROOTS]


def role_files():
    """Whatever decides what the role builds; a change there asks the role again (which builds only if its inputs changed)."""
    plugins = CHECKOUT / "plugins"
    return [CHECKOUT / "roles" / "qemu_build", *sorted(plugins.glob("*/*build*.py")), *sorted(plugins.glob("module_utils/_build/recipe.py"))]


def builder_up(host=BUILDER, groups=(BUILDER_GROUP,)):
    """Starts a builder: a bookworm host, with the build dependencies where they were installed before, and the kept compiler cache."""
    base, kept = image("bookworm"), builder_image()
    if podman("image", "exists", kept, check=False).returncode == 0:
        base = kept
    folder = cache() / "builder"
    folder.mkdir(exist_ok=True)
    return up(host, base=base, mounts=[(folder, "/var/cache/kataops-aio")], groups=groups)


def builder_down():
    """Removes the builder, after any run of this checkout that still builds on it."""
    with locked(cache() / "qemus" / ".lock"):
        down([BUILDER])


def builder_image():
    return f"localhost/kataops-aio-builder:{digest(image('bookworm'), CHECKOUT / 'roles' / 'qemu_build' / 'vars')}"


def keep_builder(host=BUILDER):
    """Keeps the builder's installed dependencies as an image for the next time."""
    if podman("image", "exists", builder_image(), check=False).returncode != 0:
        with timed("keeping the builder with its build dependencies"):
            podman("commit", "--quiet", "--pause=false", container(host), builder_image())


@functools.cache
def build(variant):
    """The folder of the variant's unpacked tree (bin/, share/kata-qemu/qemu/), built when it is not cached."""
    key = digest(variant, json.dumps(BUILDS[variant]), image("bookworm"), *role_files())
    path = cache() / "qemus" / f"{variant}-{key}"

    def make(part):
        if not (CHECKOUT / "roles" / "qemu_build" / "tasks" / "main.yml").exists():
            raise LabError(f"roles/qemu_build is missing: it is what builds {variant}")
        with timed(f"QEMU {variant}"):
            builder_up()
            result = ask_role(variant)
            unpacked = part.with_suffix(".unpacked")
            shutil.rmtree(unpacked, ignore_errors=True)
            with tarfile.open(result["artifact"]["path"]) as archive:
                archive.extractall(unpacked)  # our own artifact, whose checksum the role has verified
            (tree,) = unpacked.iterdir()
            if BUILDS[variant].get("qemu_build_linkage") == "dynamic":
                take_libraries(tree)
            tree.rename(part)
            unpacked.rmdir()
            if result["built"]:  # else nothing was installed
                keep_builder()

    path.parent.mkdir(exist_ok=True)
    cached(path, make)
    in_use(path, f"{variant}-*")
    return path


def ask_role(variant):
    """Runs the role on the builder; returns its fact qemu_build_result. Its output, with the build's progress, goes to stderr."""
    shown(LAB / "env", "--run")
    answer = STATE / f"{variant}.json"
    answer.unlink(missing_ok=True)
    variables = {**BUILDS[variant], "qemu_build_artifacts_dir": str(cache() / "artifacts"), "lab_answer": str(answer)}
    command = [
        CHECKOUT / ".cache" / "venv-run" / "bin" / "ansible-playbook", "-i", write_inventory(STATE / "builder.yml", [BUILDER]),
        "-e", json.dumps(variables), LAB / "build_qemu.yml",
    ]  # fmt: skip
    environment = {**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    command = [str(part) for part in command]
    code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=2, env=environment, cwd=CHECKOUT, check=False).returncode
    if code != 0:
        raise LabError(f"the role qemu_build failed for {variant} (code {code}); its words stand above")
    return json.loads(answer.read_text())


def take_libraries(tree):
    """Copies the libraries of a dynamic QEMU from the builder beside it: bin/lib/."""
    (binary_path,) = (tree / "bin").glob("qemu-system-*")
    folder = tree / "bin" / "lib"
    folder.mkdir()
    script = "cat >/tmp/lab-binary && chmod +x /tmp/lab-binary && ldd /tmp/lab-binary | awk '$3 ~ \"^/\" {print $3}'; rm -f /tmp/lab-binary"
    listed = podman("exec", "-i", container(BUILDER), "sh", "-c", script, stdin=binary_path.read_bytes()).stdout.decode()
    wanted = [path for path in listed.split() if not Path(path).name.startswith(LIBC)]
    packed = run("podman", "exec", container(BUILDER), "tar", "-chf", "-", *wanted, stdin=b"").stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for entry in archive:
            entry.name = Path(entry.name).name
            archive.extract(entry, folder)  # the filter came with Python 3.11.4; the archive is our own tar's


def binary(variant):
    (path,) = (build(variant) / "bin").glob("qemu-system-*")
    return path


def firmware():
    """The folder with the firmware that QEMU needs, as the role packs it beside its binaries (from Debian's packages)."""
    return build("static-none") / "share" / "kata-qemu" / "qemu"


def root(name):
    """A root folder with a suite's QEMU, unpacked, not set up."""
    path = cache() / "qemus" / f"{name}-{digest(ROOTS[name], ROOT_PACKAGES, f'{datetime.date.today():%Y-%m}')}"

    def make(part):
        with timed(f"QEMU of Debian {ROOTS[name]}"):
            mmdebstrap(
                ROOTS[name], part, "--variant=extract", "--format=directory", f"--include={ROOT_PACKAGES}",
                "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
                # a suite that is no release yet may be older on a mirror than its own term
                "--aptopt=Acquire::Check-Valid-Until \"false\"",
                "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
            )  # fmt: skip

    path.parent.mkdir(exist_ok=True)
    cached(path, make)
    in_use(path, f"{name}-*")
    return path


def folder(variants):
    """A folder with a file of each built variant's name (real files), lib/, firmware/ and the root folders: KATAOPS_LAB_QEMUS."""
    unknown = sorted(set(variants) - set(known()))
    if unknown:
        raise LabError(f"unknown variant {', '.join(unknown)}; known: {', '.join(known())}")
    parts = {}
    try:
        for variant in variants:
            parts[variant] = root(variant) if variant in ROOTS else build(variant)
    finally:
        builder_down()
    path = cache() / "qemus" / f"set-{digest(*(f'{name} {where}' for name, where in parts.items()))}"

    def make(part):
        part.mkdir()
        for name, where in parts.items():
            if name in ROOTS:
                (part / name).symlink_to(where)
                continue
            (source,) = (where / "bin").glob("qemu-system-*")
            shutil.copy2(source, part / name)
            if (where / "bin" / "lib").is_dir():
                shutil.copytree(where / "bin" / "lib", part / "lib", dirs_exist_ok=True)
            shutil.copytree(where / "share" / "kata-qemu" / "qemu", part / "firmware", dirs_exist_ok=True)

    cached(path, make)
    in_use(path, "set-*")
    say(f"test QEMUs: {', '.join(sorted(entry.name for entry in path.iterdir()))}")
    return path

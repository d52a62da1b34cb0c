# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a QEMU is built from, and how: pure functions from wishes to a configure line, a script and an identity. PRIVATE to kataops.aio.

Nothing here touches a file or starts a process. The features and devices are those of Kata's own static build
(kata-containers ``tools/packaging/scripts/configure-hypervisor.sh`` and the device list that its build verifies).
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError

#: Raised whenever an equal set of inputs would now give other bytes; it is part of every tree's identity.
REVISION = 2

#: Kata's own build knows no older QEMU (tools/packaging/static-build/qemu).
OLDEST = (6, 1)

ENGINES = ("native", "io_uring")
LINKAGES = ("static", "dynamic")

#: Kata's build installs with these, and QEMU (relocatable, its default) looks for its data relative to its own bin folder: a tree finds
#: <tree>/share/kata-qemu/qemu, and the same binary below /opt/kata/bin finds Kata's own /opt/kata/share/kata-qemu/qemu.
PREFIX = "/opt/kata"
DATA_DIR = "share/kata-qemu/qemu"

#: By machine architecture: QEMU's target, firmware that Kata's machine cannot start without, and firmware that is taken along where it is found.
ARCHITECTURES = {
    "x86_64": {
        "target": "x86_64-softmmu",
        "firmware": ("bios-256k.bin", "efi-virtio.rom", "kvmvapic.bin", "linuxboot.bin", "linuxboot_dma.bin", "pvh.bin"),
        "firmware_optional": ("bios-microvm.bin", "multiboot.bin", "multiboot_dma.bin", "qboot.rom", "vgabios-stdvga.bin"),
        "configure": ("--disable-tcg",),
    },
    "aarch64": {
        "target": "aarch64-softmmu",
        "firmware": ("efi-virtio.rom",),
        "firmware_optional": (),
        "configure": (),
    },
}

#: Where distributions keep the firmware that a source package without blobs lacks (Debian, Ubuntu; Fedora).
FIRMWARE_FOLDERS = (
    "/usr/share/qemu",
    "/usr/share/seabios",
    "/usr/lib/ipxe/qemu",
    "/usr/share/ipxe/qemu",
)

#: Always: KVM and vhost-net, only the system emulator, no blobs (the tree's firmware is chosen below), no debug information (it would be stripped).
_BASE = (
    "--without-default-features",
    "--enable-kvm",
    "--disable-install-blobs",
    "--disable-debug-info",
)

#: What Kata needs beyond that: 9p and its extended attributes, vhost-user (virtio-fs, block) and vhost-vsock, the seccomp sandbox, NUMA binding.
_KATA = (
    "--enable-attr",
    "--enable-cap-ng",
    "--enable-malloc-trim",
    "--enable-numa",
    "--enable-seccomp",
    "--enable-vhost-kernel",
    "--enable-vhost-net",
    "--enable-vhost-user",
    "--enable-virtfs",
)

#: Build steps. Its text is part of the identity, so it names no folder: those come as variables before it.
SCRIPT = r"""
set -euo pipefail
export LC_ALL=C TZ=UTC HOME="$work" NINJA_STATUS='[%f/%t] '
export CCACHE_DIR="$cache/ccache" CCACHE_BASEDIR="$work" CCACHE_NOHASHDIR=1 CCACHE_COMPILERCHECK=content CCACHE_MAXSIZE=2G
for folder in /usr/lib/ccache /usr/lib64/ccache; do
  if [ -d "$folder" ]; then PATH="$folder:/usr/bin:$PATH"; break; fi
done
phase() { printf '@@ %s %s\n' "$(date +%s)" "$1"; }
cd "$work"
rm -rf src build tree downloads
mkdir -p "$cache/ccache" downloads build

phase source
case "$source_kind" in
  distribution)
    (cd downloads && apt-get "${apt_options[@]}" --only-source --download-only source "$source_name=$source_version")
    dsc=$(find downloads -name '*.dsc')
    echo "$source_sha256  $dsc" | sha256sum --check --quiet
    dpkg-source --no-check --no-copy --extract "$dsc" src
    SOURCE_DATE_EPOCH=$(dpkg-parsechangelog --file src/debian/changelog --show-field Timestamp)
    ;;
  tarball)
    echo "$source_sha256  $source_path" | sha256sum --check --quiet
    mkdir src
    tar --extract --file "$source_path" --directory src --strip-components 1 --no-same-owner
    SOURCE_DATE_EPOCH=$(stat --format %Y src/VERSION)
    ;;
  git)
    git init --quiet src
    git -C src fetch --quiet --depth 1 "$source_name" "$source_sha256"
    git -C src checkout --quiet FETCH_HEAD
    SOURCE_DATE_EPOCH=$(git -C src show --no-patch --format=%ct HEAD)
    ;;
esac
export SOURCE_DATE_EPOCH

phase patches
for patch in "${patches[@]}"; do
  printf 'patch %s\n' "${patch##*/}"
  patch --directory src --strip 1 --forward --batch --input "$patch"
done

phase configure
cd build
# Without a C++ compiler everywhere: none is needed, but one that happens to be there changes the order of libraries at the last link.
../src/configure --cc=gcc --host-cc=gcc --cxx=/nonexistent/c++ "${configure[@]}" \
  --extra-cflags="$cflags -ffile-prefix-map=$work=." ${ldflags:+--extra-ldflags="$ldflags"}

phase compile
ninja ${jobs:+-j "$jobs"} "$binary"

phase tree
cd "$work"
install -D -m 0755 "build/$binary" "tree/bin/$binary"
strip --strip-all "tree/bin/$binary"
mkdir -p "tree/$data_dir"
for name in "${firmware[@]}" "${firmware_optional[@]}"; do
  for folder in src/pc-bios "${firmware_folders[@]}"; do
    if [ -f "$folder/$name" ]; then install -m 0644 "$folder/$name" "tree/$data_dir/$name"; break; fi
  done
done
for name in "${firmware[@]}"; do
  if [ ! -f "tree/$data_dir/$name" ]; then echo "no firmware $name, neither in the source nor in ${firmware_folders[*]}"; exit 1; fi
done
install -D -m 0644 src/COPYING tree/share/doc/qemu/COPYING
install -m 0644 src/LICENSE tree/share/doc/qemu/LICENSE
printf '%s\n' "$SOURCE_DATE_EPOCH" >epoch
phase done
"""


#: The same for the QEMU out of a kata-static tarball: nothing is compiled. Kata's own binary looks for its data below /opt/kata only (from 3.7.0
#: on), so a wrapper names the tree's, as kata-deploy's own wrapper does for other prefixes.
KATA_STATIC_SCRIPT = r"""
set -euo pipefail
export LC_ALL=C TZ=UTC HOME="$work"
phase() { printf '@@ %s %s\n' "$(date +%s)" "$1"; }
cd "$work"
rm -rf src build tree downloads
mkdir src

phase source
echo "$source_sha256  $source_path" | sha256sum --check --quiet
case "$(head -c 4 "$source_path" | od -An -tx1 | tr -d ' ')" in
  28b52ffd) unpack=(--use-compress-program 'zstd -d') ;;
  *) unpack=(--auto-compress) ;;
esac
tar --extract "${unpack[@]}" --file "$source_path" --directory src --no-same-owner --no-same-permissions --wildcards \
  "*opt/kata/bin/$binary" '*opt/kata/share/kata-qemu/qemu/*'

phase tree
install -D -m 0755 "src/opt/kata/bin/$binary" "tree/libexec/$binary"
mkdir -p tree/bin "tree/$data_dir"
printf '#!/bin/sh\nexec "${0%%/*}/../libexec/%s" "$@" -L "${0%%/*}/../%s/"\n' "$binary" "$data_dir" >"tree/bin/$binary"
chmod 0755 "tree/bin/$binary"
find src/opt/kata/share/kata-qemu/qemu -maxdepth 1 -type f -exec install -m 0644 -t "tree/$data_dir" {} +
for name in "${firmware[@]}"; do
  if [ ! -f "tree/$data_dir/$name" ]; then echo "the tarball has no firmware $name"; exit 1; fi
done
stat --format %Y "src/opt/kata/bin/$binary" >epoch
phase done
"""

SOURCES = ("distribution", "tarball", "git", "kata_static")


def architecture(name):
    """The table of one machine architecture (``x86_64``, ``aarch64``).

    :raises AioError: an architecture that QEMU is not built for here.
    """
    try:
        return ARCHITECTURES[name]
    except KeyError:
        raise AioError(
            "QEMU cannot be built for this architecture here",
            where=name,
            expected="one of %s" % ", ".join(sorted(ARCHITECTURES)),
            remedy="give a builder of such an architecture, or repair these hosts by another strategy",
        ) from None


def binary(arch):
    """File name of the system emulator for ``arch``."""
    return "qemu-system-%s" % architecture(arch)["target"].replace("-softmmu", "")


def configure_arguments(arch, linkage, engines, minimal, extra):
    """The arguments of QEMU's configure, without compiler flags and without the package version (which holds the identity made of these).

    :arg engines: subset of :data:`ENGINES`; those left out are switched off, not left to chance.
    :arg minimal: only what a KVM machine with virtio disks needs; else everything that Kata's devices need.
    :arg extra: the user's own arguments, last, so that they win.
    """
    if linkage not in LINKAGES:
        raise AioError("unknown linkage", where=str(linkage), expected="one of %s" % ", ".join(LINKAGES))
    unknown = sorted(set(engines) - set(ENGINES))
    if unknown:
        raise AioError("unknown engine", where=", ".join(unknown), expected="some of %s (threads is in every QEMU)" % ", ".join(ENGINES))
    table = architecture(arch)
    arguments = list(_BASE)
    arguments += [
        "--prefix=%s" % PREFIX,
        "--datadir=%s/share/kata-qemu" % PREFIX,
        "--libdir=%s/lib/kata-qemu" % PREFIX,
        "--libexecdir=%s/libexec/kata-qemu" % PREFIX,
        "--target-list=%s" % table["target"],
    ]
    arguments += table["configure"]
    arguments += ["--%s-linux-aio" % ("enable" if "native" in engines else "disable")]
    arguments += ["--%s-linux-io-uring" % ("enable" if "io_uring" in engines else "disable")]
    if not minimal:
        arguments += _KATA
    if linkage == "static":
        arguments.append("--static")
        if arch == "aarch64":
            arguments.append("--disable-pie")
    arguments += list(extra)
    return arguments


def is_complete(configure):
    """Whether a configure line asks for everything that Kata needs (a minimal build does not)."""
    return set(_KATA) <= set(configure)


def compiler_flags(hardening):
    """``(cflags, ldflags)``, each one string. Hardening is that of Kata's own build."""
    cflags = ["-fstack-protector-strong"] if hardening else []
    ldflags = ["-Wl,-z,noexecstack", "-Wl,-z,relro", "-Wl,-z,now"] if hardening else []
    if hardening:
        cflags += ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"]
    return " ".join(cflags), " ".join(ldflags)


def inputs(*, arch, linkage, engines, minimal, hardening, extra, source, patch_digests, toolchain):
    """Everything that decides the bytes of the result, as plain data.

    :arg source: ``{kind, name, version, sha256}``; sha256 of the .dsc or tarball, or the commit of a git source.
    :arg toolchain: ``{package: version}`` of the builder's compiler, libraries and firmware.
    """
    compiled = source["kind"] != "kata_static"
    if compiled:
        _check_version(source["version"])
    cflags, ldflags = compiler_flags(hardening and compiled)
    if not compiled and (patch_digests or extra or linkage != "static"):
        raise AioError(
            "a QEMU out of a kata-static tarball is taken as it is",
            where="qemu_build_source: kata_static",
            expected="no patches, no configure_extra and linkage static",
        )
    return {
        "recipe": {"revision": REVISION, "script_sha256": hashlib.sha256(_script_of(source["kind"]).encode()).hexdigest()},
        "architecture": arch,
        "linkage": linkage,
        "engines": sorted(engines),
        "configure": configure_arguments(arch, linkage, engines, minimal, extra) if compiled else [],
        "cflags": cflags,
        "ldflags": ldflags,
        "source": {key: source[key] for key in ("kind", "name", "version", "sha256")},
        "patches": list(patch_digests),
        "toolchain": dict(toolchain) if compiled else {},
    }


def _check_version(version):
    """
    :raises AioError: a version that is none, or older than Kata can use.
    """
    numbers = re.match(r"(?:\d+:)?(\d+)\.(\d+)", version)
    if not numbers or tuple(int(part) for part in numbers.groups()) < OLDEST:
        raise AioError(
            "Kata needs QEMU %d.%d or newer" % OLDEST, where="the version of the source: %s" % version, remedy="choose a newer source (qemu_build_version)"
        )


def _script_of(kind):
    return KATA_STATIC_SCRIPT if kind == "kata_static" else SCRIPT


def digest(build_inputs):
    """sha256 (hex) of the inputs in canonical JSON."""
    return hashlib.sha256(json.dumps(build_inputs, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def tree_id(build_inputs):
    """``qemu-<version>-<arch>-<linkage>-<digest12>``; the version is the source's (a Debian one without its epoch)."""
    version = re.sub(r"^\d+:", "", build_inputs["source"]["version"])
    if build_inputs["source"]["kind"] == "kata_static":
        version = "kata-" + version
    version = re.sub(r"[^A-Za-z0-9.+~_-]", "-", version)
    return "qemu-%s-%s-%s-%s" % (version, build_inputs["architecture"], build_inputs["linkage"], digest(build_inputs)[:12])


def script(build_inputs, work, cache, *, source_path=None, patches=(), apt_options=(), jobs=None):
    """The whole build script: the folders and inputs as variables, then :data:`SCRIPT`.

    :arg work: the build's own folder on the builder; the script makes src, build and tree below it.
    :arg source_path: the tarball on the builder (source kind ``tarball``).
    :arg patches: patch files on the builder, in order.
    """
    table = architecture(build_inputs["architecture"])
    identity = tree_id(build_inputs)
    source = build_inputs["source"]
    scalars = {
        "work": work,
        "cache": cache,
        "source_kind": source["kind"],
        "source_name": source["name"],
        "source_version": source["version"],
        "source_sha256": source["sha256"],
        "source_path": source_path or "",
        "cflags": build_inputs["cflags"],
        "ldflags": build_inputs["ldflags"],
        "jobs": str(jobs or ""),
        "binary": binary(build_inputs["architecture"]),
        "data_dir": DATA_DIR,
    }
    arrays = {
        "configure": build_inputs["configure"] + ["--with-pkgversion=%s" % identity],
        "patches": patches,
        "apt_options": apt_options,
        "firmware": table["firmware"],
        "firmware_optional": table["firmware_optional"],
        "firmware_folders": FIRMWARE_FOLDERS,
    }
    lines = ["#!/usr/bin/env bash", "# Builds %s" % identity]
    lines += ["%s=%s" % (name, shlex.quote(value)) for name, value in sorted(scalars.items())]
    lines += ["%s=(%s)" % (name, " ".join(shlex.quote(value) for value in values)) for name, values in sorted(arrays.items())]
    return "\n".join(lines) + "\n" + _script_of(source["kind"])


_PHASE = re.compile(r"^@@ (\d+) (\w+)$", re.MULTILINE)
_STEP = re.compile(r"^\[(\d+)/(\d+)\] ", re.MULTILINE)


def progress(log):
    """What a build's log says of its course.

    :arg log: the log's text, or its phases and its end.
    :returns: ``{phase, phase_started, started, done, total}``: seconds since the epoch, ninja's steps (both None before the compilation).
    """
    phases = _PHASE.findall(log)
    steps = _STEP.findall(log)
    compiling = bool(phases) and phases[-1][1] == "compile"
    return {
        "phase": phases[-1][1] if phases else None,
        "phase_started": int(phases[-1][0]) if phases else None,
        "started": int(phases[0][0]) if phases else None,
        "done": int(steps[-1][0]) if compiling and steps else None,
        "total": int(steps[-1][1]) if compiling and steps else None,
    }


def source_stanzas(text, deb822):
    """The sources of one apt file as sources of source packages (``deb-src``), for a private copy; the builder's own file stays as it is.

    :arg text: contents of a ``.list`` (one line each) or ``.sources`` (deb822) file.
    :arg deb822: whether it is of the second form.
    """
    if not deb822:
        lines = [re.sub(r"^deb(-src)?(?=\s)", "deb-src", line.strip()) for line in text.splitlines() if re.match(r"\s*deb(-src)?\s", line)]
        return "".join(line + "\n" for line in dict.fromkeys(lines))
    stanzas = []
    for stanza in re.split(r"\n\s*\n", text):
        kept = "\n".join(line for line in stanza.splitlines() if not line.startswith("#"))
        if not re.search(r"^types:", kept, re.MULTILINE | re.IGNORECASE) or re.search(r"^enabled:\s*no", kept, re.MULTILINE | re.IGNORECASE):
            continue
        stanzas.append(re.sub(r"^types:.*$", "Types: deb-src", kept, flags=re.MULTILINE | re.IGNORECASE))
    return "".join(stanza.strip() + "\n\n" for stanza in stanzas)


def source_records(text):
    """``[(version, sha256 of the .dsc)]`` of what ``apt-cache showsrc`` printed, in its order."""
    records = []
    for paragraph in re.split(r"\n\s*\n", text):
        version = re.search(r"^Version: (\S+)", paragraph, re.MULTILINE)
        sums = re.search(r"^Checksums-Sha256:\s*\n((?: .*\n?)+)", paragraph, re.MULTILINE)
        dsc = re.search(r"^ ([0-9a-f]{64}) \d+ \S+\.dsc$", sums.group(1), re.MULTILINE) if sums else None
        if version and dsc:
            records.append((version.group(1), dsc.group(1)))
    return records


def package_versions(text):
    """``{package: version}`` of what ``apt-cache policy`` printed: the installed one, else the candidate; None where there is neither."""
    versions = {}
    name = None
    for line in text.splitlines():
        heading = re.match(r"^(\S+):$", line)
        if heading:
            name = heading.group(1)
            versions.setdefault(name, None)
            continue
        value = re.match(r"^\s+(Installed|Candidate): (\S+)$", line)
        if value and name and value.group(2) != "(none)" and versions[name] is None:
            versions[name] = value.group(2)
    return versions

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each release of Kata Containers ships and can do, as data. PRIVATE to kataops.aio.

Facts from Kata's own release tags 2.5.0 to 4.1.0 (``versions.yaml``, ``src/runtime/pkg/katautils/config.go``, ``src/libs/kata-types``,
``src/runtime-rs``, ``tools/packaging``), most of them measured with Kata's own loaders. A release that is not known gives ``None``: unknown, never a
guess. A pre-release counts as older than its release (``3.29.0-alpha1`` is before ``3.29.0``).
"""

from __future__ import annotations

import re

from ansible_collections.kataops.aio.plugins.module_utils._kata import places

ENGINES = ("io_uring", "native", "threads")
DEFAULT_AIO = "io_uring"  # both runtimes, every release that has the key
DEFAULT_QEMU_PATH = "/usr/bin/qemu-system-x86_64"

# First Kata release with that QEMU in its static tarball.
QEMU_BUMPS = (
    ("3.0.0", "6.2.0"),
    ("3.1.0", "7.2.0"),
    ("3.7.0", "8.2.4"),
    ("3.12.0", "9.1.2"),
    ("3.20.0", "10.0.3"),
    ("3.21.0", "10.1.0"),
    ("3.22.0", "10.1.1"),
    ("3.25.0", "10.2.0"),
    ("3.27.0", "10.2.1"),
    ("3.32.0", "11.0.1"),
)
NEWEST_KNOWN = "4.1.999"  # later releases are unknown

# Arguments of ``device_add`` that the Go runtime sent as a string until that release, where QEMU's property has another type: share-rw of every disk
# (kata-containers #10719), core-id and its like of every vCPU (#11667), num-queues of a virtio-blk disk on a PCI bridge (#11888).
GO_STRINGS = (
    {"name": "share-rw", "of": "block devices", "since": "3.14.0", "blocks": True, "driver": None},
    {"name": "core-id", "of": "vCPUs", "since": "3.20.0", "blocks": False, "driver": None},
    {"name": "num-queues", "of": "block devices", "since": "3.22.0", "blocks": True, "driver": "virtio-blk"},
)
# First QEMU that takes no string for them in QMP (commit be93fd53723c; deprecated since 6.2).
QEMU_STRICT_TYPES = "9.2.0"

# Compiled here, once: a pattern that a function compiles would be compiled for each host, as each has a new process.
_RELEASE = re.compile(r"^\s*v?(\d+)\.(\d+)(?:\.(\d+))?(?:[-~]?((?:alpha|beta|rc)[0-9A-Za-z.]*))?(?:[+-][0-9A-Za-z.+-]*)?\s*$")


def parse_release(text):
    """``(major, minor, patch, pre-release)`` of ``"3.7.0"``, ``"v3.7.0-rc0"``, ``"3.29.0-alpha1"``, ``"4.1"``; ``None`` when it is not one.

    The last member is ``"~"`` for a final release, so that tuples compare as releases do.
    """
    match = _RELEASE.match(text or "")
    if not match:
        return None
    return int(match.group(1)), int(match.group(2)), int(match.group(3) or 0), match.group(4) or "~"


def at_least(release, wanted):
    """Is ``release`` ``wanted`` or later? ``None`` when ``release`` is unknown."""
    parsed = parse_release(release)
    return None if parsed is None else parsed >= parse_release(wanted)


def newer_than_known(release):
    """Is a release later than any that these facts are of?"""
    parsed = parse_release(release)
    return parsed is not None and parsed > parse_release(NEWEST_KNOWN)


def qemu_version(release):
    """The QEMU of the static tarball of a release, such as ``"8.2.4"``; ``None`` for an unknown one."""
    parsed = parse_release(release)
    if parsed is None or newer_than_known(release):
        return None
    found = None
    for since, version in QEMU_BUMPS:
        if parsed >= parse_release(since):
            found = version
    return found


def shipped_engines(release):
    """Engines compiled into Kata's own static QEMU by its build files: ``{threads, native, io_uring}`` of true, false or ``None``.

    ``native`` came with 3.8.0 (kata-containers commit d455883b46); io_uring is built from 3.0.0 on. The binary itself has the last word.
    """
    if qemu_version(release) is None:
        return {"threads": True, "native": None, "io_uring": None}
    return {"threads": True, "native": at_least(release, "3.8.0"), "io_uring": True}


def io_uring_refused_by_host(version):
    """What a QEMU does when the kernel refuses io_uring: ``"fails"`` (up to 8.2, and from 10.2), ``"falls_back"`` (9.0 to 10.1), ``None`` unknown."""
    parsed = parse_release(version)
    if parsed is None:
        return None
    return "falls_back" if (9, 0) <= parsed[:2] <= (10, 1) else "fails"


def engine_support(runtime, release):
    """What a runtime does with ``block_device_aio`` on hot-plug.

    :arg runtime: ``go`` or ``rs``.
    :returns: ``{honoured, always, native, native_keys}``: is the key obeyed; the engine that is used whatever it says (``None`` = as configured); can
        ``native`` work at all; the keys that ``native`` needs. Members are ``None`` when the release is unknown.

    Go obeys it from 3.0.0 (before: QEMU's own default, threads). runtime-rs: up to 3.19 nothing is sent (threads), 3.20 sends io_uring always, from
    3.21 it is obeyed, and from 3.29.0 ``block_device_cache_direct`` too, without which QEMU refuses ``native`` (kata-containers #11769, #12682).
    """
    if runtime == "go":
        honoured = at_least(release, "3.0.0")
        return {
            "honoured": honoured,
            "always": "threads" if honoured is False else None,
            "native": honoured,
            "native_keys": ["block_device_aio", "block_device_cache_set", "block_device_cache_direct"],
        }
    honoured = at_least(release, "3.21.0")
    always = None
    if honoured is False:
        always = "io_uring" if at_least(release, "3.20.0") else "threads"
    return {
        "honoured": honoured,
        "always": always,
        "native": at_least(release, "3.29.0"),
        "native_keys": ["block_device_aio", "block_device_cache_direct"],
    }


def refused_arguments(runtime, release, qemu, driver):
    """Which of a runtime's ``device_add`` arguments a QEMU refuses for their type: members of :data:`GO_STRINGS`.

    Kata before 3.0 is counted in; runtime-rs sends all of them in their types. Empty where a release is not known.

    :arg qemu: QEMU's version, such as ``"10.0.13"``.
    :arg driver: ``block_device_driver``; None for the runtime's default, virtio-scsi.
    """
    if runtime != "go" or not at_least(qemu, QEMU_STRICT_TYPES):
        return []
    return [each for each in GO_STRINGS if at_least(release, each["since"]) is False and each["driver"] in (None, driver)]


def drop_ins_supported(runtime, release):
    """Does the runtime read ``config.d``? Go from 2.5.0, runtime-rs from 3.0.0; ``None`` when unknown."""
    return at_least(release, "2.5.0" if runtime == "go" else "3.0.0")


def default_driver(runtime, release):
    """``block_device_driver`` where a configuration has none: runtime-rs takes virtio-blk-pci from 3.2.0."""
    if runtime == "go":
        return "virtio-scsi"
    return "virtio-blk" if at_least(release, "3.2.0") is False else "virtio-blk-pci"


def conf_file_restricted(release):
    """Is ``KATA_CONF_FILE`` accepted only if it resolves to a default path? From 4.0.0, both runtimes (kata-containers ab2e7f0c58)."""
    return at_least(release, "4.0.0")


def default_configurations(runtime, release, shim=None):
    """The configuration files that a runtime tries when it is told none, in its order.

    :arg shim: the real path of the shim, which tells what its packager compiled into it; ``None``: any of them.
    """
    if runtime == "rs" and at_least(release, "3.3.0") is not False:
        return [
            "/etc/kata-containers/runtime-rs/configuration.toml",
            "/usr/share/defaults/kata-containers/runtime-rs/configuration.toml",
            "/opt/kata/share/defaults/kata-containers/runtime-rs/configuration.toml",
        ]
    if runtime == "rs":
        return ["/etc/kata-containers/configuration.toml", "/usr/share/defaults/kata-containers/configuration.toml"]
    return ["%s/configuration.toml" % folder for folder in [places.OVERRIDES] + places.compiled_in(shim)]

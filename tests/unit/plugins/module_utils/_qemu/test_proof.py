# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kata's requests, word for word, and proofs that fail before a QEMU runs. Real proofs are in tests/integration_lab/test_qemu_matrix.py."""

from __future__ import annotations

import itertools
import json

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._qemu import proof as _proof

# What Kata sends on its wire, by the domain reference: (runtime, is a device, cache_set, cache_direct, request).
WIRE = [
    (
        "go",
        True,
        True,
        True,
        '{"driver":"raw","node-name":"drive-1","read-only":false,"cache":{"direct":true,"no-flush":false},'
        '"file":{"driver":"host_device","filename":"/dev/dm-3","aio":"native"}}',
    ),
    (
        "go",
        True,
        True,
        False,
        '{"driver":"raw","node-name":"drive-1","read-only":false,"cache":{"direct":false,"no-flush":false},'
        '"file":{"driver":"host_device","filename":"/dev/dm-3","aio":"native"}}',
    ),
    (
        "go",
        True,
        False,
        True,
        '{"driver":"raw","node-name":"drive-1","read-only":false,"file":{"driver":"host_device","filename":"/dev/dm-3","aio":"native"}}',
    ),
    (
        "go",
        False,
        False,
        True,
        '{"driver":"raw","node-name":"drive-1","read-only":false,"file":{"driver":"file","filename":"/dev/dm-3","aio":"native"}}',
    ),
    (
        "rs",
        True,
        False,
        True,
        '{"driver":"raw","node-name":"drive-1","read-only":false,'
        '"file":{"driver":"host_device","filename":"/dev/dm-3","aio":"native","read-only":false,"cache":{"direct":true}}}',
    ),
    (
        "rs",
        False,
        True,
        False,
        '{"driver":"raw","node-name":"drive-1","read-only":false,'
        '"file":{"driver":"file","filename":"/dev/dm-3","aio":"native","read-only":false,"cache":{"direct":false}}}',
    ),
]


@pytest.mark.parametrize(("runtime", "device", "cache_set", "cache_direct", "request_text"), WIRE)
def test_blockdev_add_is_katas(runtime, device, cache_set, cache_direct, request_text):
    request, deviation = _proof.blockdev_request(
        runtime, "drive-1", "/dev/dm-3", is_device=device, engine="native", cache_set=cache_set, cache_direct=cache_direct
    )
    assert request == json.loads(request_text)
    assert deviation is None


def test_go_with_cache_set_deviates_only_on_a_regular_file():
    for runtime, device, cache_set in itertools.product(("go", "rs"), (True, False), (True, False)):
        request, deviation = _proof.blockdev_request(runtime, "d", "/x", is_device=device, engine="native", cache_set=cache_set, cache_direct=True)
        assert bool(deviation) == (runtime == "go" and cache_set and not device)
        assert request["file"]["driver"] == ("host_device" if device else "file")


@pytest.mark.parametrize(
    ("runtime", "driver", "expected"),
    [
        ("go", "virtio-blk", {"driver": "virtio-blk-pci", "drive": "d", "bus": "pci-bridge-0", "addr": "01", "share-rw": True, "num-queues": 1}),
        ("rs", "virtio-blk-pci", {"id": "d", "driver": "virtio-blk-pci", "drive": "d", "bus": "pci-bridge-0", "addr": "01", "share-rw": True}),
        ("go", "virtio-scsi", {"driver": "scsi-hd", "drive": "d", "bus": "scsi0.0", "scsi-id": 0, "lun": 0, "share-rw": True}),
        ("rs", "virtio-scsi", {"id": "d", "driver": "scsi-hd", "drive": "d", "bus": "scsi0.0", "scsi-id": 0, "lun": 0, "share-rw": True}),
    ],
)
def test_device_add_is_katas(runtime, driver, expected):
    request = _proof.device_request(runtime, driver, "d")
    assert expected.items() <= request.items()


# (release, share-rw, num-queues) as Go sends them: pull requests 10719 and 11888.
@pytest.mark.parametrize(
    ("release", "shared", "queues"), [("3.7.0", "on", "1"), ("3.14.0", True, "1"), ("3.21.0", True, "1"), ("3.22.0", True, 1), (None, True, 1)]
)
def test_device_add_by_release(release, shared, queues):
    request = _proof.device_request("go", "virtio-blk", "d", _proof.release_numbers(release))
    assert (request["share-rw"], request["num-queues"]) == (shared, queues)


# (release, engine on the wire, cache on the wire) as runtime-rs sends them for native with direct: domain reference 11.3.
@pytest.mark.parametrize(
    ("release", "engine", "cache"),
    [
        ("3.19.0", None, None),
        ("3.20.0", "io_uring", None),
        ("3.21.0", "native", None),
        ("3.28.0", "native", None),
        ("3.29.0", "native", {"direct": True}),
    ],
)
def test_blockdev_add_of_runtime_rs_by_release(release, engine, cache):
    request, _deviation = _proof.blockdev_request(
        "rs", "d", "/x", is_device=True, engine="native", cache_set=True, cache_direct=True, release=_proof.release_numbers(release)
    )
    assert (request["file"].get("aio"), request["file"].get("cache")) == (engine, cache)


@pytest.mark.parametrize(("text", "numbers"), [("3.7.0", (3, 7, 0)), ("v4.1", (4, 1, 0)), ("3.0.0-rc1", (3, 0, 0))])
def test_release_numbers(text, numbers):
    assert _proof.release_numbers(text) == numbers


@pytest.mark.parametrize("text", ["", "latest", "3", "3.x", "99999.1"])
def test_what_is_no_release(text):
    with pytest.raises(AioError, match="no release"):
        _proof.release_numbers(text)


def test_the_machine_has_what_the_hot_plug_needs():
    line = " ".join(_proof.command_line("/q", "q35", "virtio-scsi", "on,obsolete=deny"))
    assert " -S " in line
    for part in (
        "-machine q35",
        "pci-bridge,bus=pcie.0,id=pci-bridge-0",
        "virtio-scsi-pci,id=scsi0",
        "-sandbox on,obsolete=deny",
        "-qmp stdio",
    ):
        assert part in line
    assert "scsi" not in " ".join(_proof.command_line("/q", "q35", "virtio-blk"))


@pytest.mark.parametrize(
    "options",
    [
        {"runtime": "java"},
        {"engine": "auto"},
        {"block_device_driver": "nvme"},
        {"machine_type": "pc"},
        {"storage_path": "images"},
        {"release": "latest"},
    ],
)
def test_what_means_nothing_is_one_clear_error(options):
    with pytest.raises(AioError):
        _proof.prove("/bin/true", **options)


def test_a_relative_path_is_one_clear_error():
    with pytest.raises(AioError, match="not absolute"):
        _proof.prove("qemu-system-x86_64")


KEYS = {"ok", "engine_asked", "engine_observed", "accelerator", "backend", "cause", "firmware_ok", "transcript", "reason", "evidence"}


@pytest.mark.parametrize(
    ("text", "cause", "words"),
    [
        (None, "missing", "No such file"),
        ("hello\n", "not_qemu", "neither an ELF file nor a script"),
        ("#!/bin/sh\nexit 0\n", "not_qemu", "said nothing"),
        ("#!/bin/sh\nkill -SYS $$\n", "killed", "SIGSYS"),
        ("#!/bin/sh\nexec sleep 1000\n", "timed_out", "no answer within 2 seconds"),
        ("#!/bin/sh\nexec yes\n", "unintelligible", "no QMP"),
        ("#!/nonesuch\n", "not_executable", "No such file"),
        # QEMU 7.2.22's own words, with status 1.
        ("#!/bin/sh\necho \"qemu: could not load PC BIOS 'bios-256k.bin'\" >&2\nexit 1\n", "firmware", "bios-256k.bin"),
        (
            "#!/bin/sh\necho 'qemu-system-x86_64: -device virtio-net-pci: failed to find romfile \"efi-virtio.rom\"' >&2\nexit 1\n",
            "firmware",
            "efi-virtio.rom",
        ),
    ],
)
def test_a_bad_qemu_is_a_failed_proof(tmp_path, text, cause, words):
    path = tmp_path / "qemu"
    if text is not None:
        path.write_text(text)
        path.chmod(0o755)
    result = _proof.prove(str(path), storage_path=str(tmp_path), timeout=2 if cause == "timed_out" else 60)
    assert set(result) == KEYS
    assert (result["ok"], result["cause"]) == (False, cause)
    assert words in result["reason"]
    assert result["firmware_ok"] is (False if cause == "firmware" else None)
    json.dumps(result)
    assert [entry.name for entry in tmp_path.iterdir() if entry != path] == []


def test_a_storage_that_takes_no_file(tmp_path):
    path = tmp_path / "qemu"
    path.write_text("#!/bin/sh\nexit 0\n")
    path.chmod(0o755)
    result = _proof.prove(str(path), storage_path="/proc/self")
    assert (result["ok"], result["cause"]) == (False, "storage")

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways in which block I/O fails are told apart, each with its verdict, and no rule silences another without a reason.

The expected outcomes are those measured with Kata's own code and real QEMU binaries, not those of the code under test.
"""

from __future__ import annotations

import re

import pytest
from ansible_collections.kataops.aio.plugins.plugin_utils._judge.assess import assess, headroom, hot_plug_refused
from ansible_collections.kataops.aio.plugins.plugin_utils._judge.rules import RULES
from ansible_collections.kataops.aio.tests.unit.plugins.plugin_utils import observed as o

CACHE_OFF = {"block_device_cache_set": False, "block_device_cache_direct": False}

# name: (runtime, observations, policy, expected ids besides info, expected verdict)
CASES = {
    "healthy native": (o.runtime(), o.observations(), {}, set(), "ok"),
    "F1 native, QEMU without libaio": (o.runtime(), o.observations([o.qemu(native="not_compiled")]), {}, {"KAIO101"}, "broken"),
    "F1 hides F2": (o.runtime(values=CACHE_OFF), o.observations([o.qemu(native="not_compiled")]), {}, {"KAIO101"}, "broken"),
    "F2 Go without cache keys": (o.runtime(values=CACHE_OFF), o.observations(), {}, {"KAIO102"}, "broken"),
    "F2 Go, direct without set": (o.runtime(values={"block_device_cache_set": False}), o.observations(), {}, {"KAIO102"}, "broken"),
    "F2 Go, set without direct": (o.runtime(values={"block_device_cache_direct": False}), o.observations(), {}, {"KAIO102"}, "broken"),
    "rs 3.29 needs direct only": (o.runtime("rs", "3.29.0", values={"block_device_cache_set": False}), o.observations(), {}, set(), "ok"),
    "rs 3.29 without direct": (o.runtime("rs", "3.29.0", values=CACHE_OFF), o.observations(), {}, {"KAIO102"}, "broken"),
    "rs 3.28 cannot do native": (o.runtime("rs", "3.28.0"), o.observations(), {}, {"KAIO116"}, "broken"),
    "rs 3.20 always io_uring, not compiled": (
        o.runtime("rs", "3.20.0"),
        o.observations([o.qemu(io_uring="not_compiled")]),
        {},
        {"KAIO103"},
        "broken",
    ),
    "rs 3.19 always threads": (o.runtime("rs", "3.19.0"), o.observations([o.qemu(native="not_compiled", io_uring="not_compiled")]), {}, set(), "ok"),
    "F3 io_uring not compiled": (
        o.runtime(values={"block_device_aio": "io_uring", **CACHE_OFF}),
        o.observations([o.qemu(io_uring="not_compiled")]),
        {},
        {"KAIO103"},
        "broken",
    ),
    "F4a, F4c io_uring refused": (
        o.runtime(values={"block_device_aio": "io_uring", **CACHE_OFF}),
        o.observations([o.qemu(io_uring="refused")], kernel=o.kernel(io_uring_ok=False, disabled=2)),
        {},
        {"KAIO104"},
        "broken",
    ),
    "F4b io_uring falls back silently": (
        o.runtime(values={"block_device_aio": "io_uring", **CACHE_OFF}),
        o.observations([o.qemu(io_uring="falls_back")], kernel=o.kernel(io_uring_ok=False, disabled=2)),
        {},
        {"KAIO105"},
        "degraded",
    ),
    "a kernel that is too old for io_uring": (
        o.runtime(values={"block_device_aio": "io_uring", **CACHE_OFF}),
        o.observations([o.qemu(io_uring="refused")], kernel=o.kernel(io_uring_ok=False, disabled=None, errno="ENOSYS", release="4.18.0-553.el8.x86_64")),
        {},
        {"KAIO114"},
        "broken",
    ),
    "a kernel that is too old for io_uring, and QEMU falls back": (
        o.runtime(values={"block_device_aio": "io_uring", **CACHE_OFF}),
        o.observations([o.qemu(io_uring="falls_back")], kernel=o.kernel(io_uring_ok=False, disabled=None, errno="ENOSYS", release="4.18.0-553.el8.x86_64")),
        {},
        {"KAIO105"},
        "degraded",
    ),
    "ENOSYS on a kernel that has io_uring, refused": (
        o.runtime(values={"block_device_aio": "io_uring", **CACHE_OFF}),
        o.observations([o.qemu(io_uring="refused")], kernel=o.kernel(io_uring_ok=False, disabled=None, errno="ENOSYS", release="5.14.0-70.el9.x86_64")),
        {},
        {"KAIO104"},
        "broken",
    ),
    "ENOSYS on a kernel that has io_uring, and QEMU falls back": (
        o.runtime(values={"block_device_aio": "io_uring", **CACHE_OFF}),
        o.observations([o.qemu(io_uring="falls_back")], kernel=o.kernel(io_uring_ok=False, errno="ENOSYS", release="6.6.87.2-microsoft-standard")),
        {},
        {"KAIO105"},
        "degraded",
    ),
    "QEMU's ring works although ours was refused": (
        o.runtime(values={"block_device_aio": "io_uring", **CACHE_OFF}),
        o.observations(kernel=o.kernel(io_uring_ok=False, errno="ENOSYS")),
        {},
        set(),
        "ok",
    ),
    "io_uring switch 1, root": (
        o.runtime(values={"block_device_aio": "io_uring", **CACHE_OFF}),
        o.observations(kernel=o.kernel(disabled=1, user_ok=False)),
        {},
        set(),
        "ok",
    ),
    "io_uring switch 1, rootless": (
        o.runtime(values={"block_device_aio": "io_uring", "rootless": True, **CACHE_OFF}),
        o.observations(kernel=o.kernel(disabled=1, user_ok=False)),
        {},
        {"KAIO113", "KAIO126"},
        "broken",
    ),
    "ordinary users get no ring for another reason, rootless": (
        o.runtime(values={"block_device_aio": "io_uring", "rootless": True, **CACHE_OFF}),
        o.observations(kernel=o.kernel(disabled=0, user_ok=False, errno="ENOMEM")),
        {},
        {"KAIO113", "KAIO126"},
        "broken",
    ),
    "rootless, whatever the engine": (o.runtime(values={"rootless": True}), o.observations(), {}, {"KAIO126"}, "degraded"),
    "F5 exhausted, hard": (
        o.runtime(),
        o.observations([o.qemu(native="refused")], kernel=o.kernel(65536, 65536, io_setup_ok=False)),
        {},
        {"KAIO106"},
        "broken",
    ),
    "F5 exhausted, silent": (
        o.runtime(),
        o.observations([o.qemu(native="falls_back")], kernel=o.kernel(65536, 65536, io_setup_ok=False)),
        {},
        {"KAIO107"},
        "degraded",
    ),
    "F5 to come: 64 sandboxes only": (o.runtime(), o.observations(kernel=o.kernel(65536)), {}, {"KAIO108"}, "degraded"),
    "headroom is no matter for io_uring": (
        o.runtime(values={"block_device_aio": "io_uring", **CACHE_OFF}),
        o.observations(kernel=o.kernel(65536)),
        {},
        set(),
        "ok",
    ),
    "F5 exhausted between the probe and the look at the limit": (o.runtime(), o.observations([o.qemu(native="refused")]), {}, {"KAIO106"}, "broken"),
    "native refused by a filter": (o.runtime(), o.observations([o.qemu(native="refused", native_cause="kernel_refused")]), {}, {"KAIO122"}, "broken"),
    "native refused by a filter, silently": (
        o.runtime(),
        o.observations([o.qemu(native="falls_back", native_cause="kernel_refused")]),
        {},
        {"KAIO107"},
        "degraded",
    ),
    "native opens, and the write fails": (o.runtime(), o.observations([o.qemu(native="refused", native_cause="io_error")]), {}, {"KAIO122"}, "broken"),
    "native unknown": (o.runtime(), o.observations([o.qemu(native="unknown")]), {}, {"KAIO011"}, "unknown"),
    "storage without O_DIRECT": (o.runtime(), o.observations([o.qemu(native="refused")], storage=o.storage(False)), {}, {"KAIO109"}, "broken"),
    "storage without O_DIRECT, in QEMU's words alone": (
        o.runtime(),
        o.observations([o.qemu(native="refused", native_cause="no_o_direct")], storage=[]),
        {},
        {"KAIO109"},
        "broken",
    ),
    "storage without O_DIRECT, io_uring with cache.direct": (
        o.runtime(values={"block_device_aio": "io_uring"}),
        o.observations([o.qemu(io_uring="refused", io_uring_cause="no_o_direct")], storage=o.storage(False)),
        {},
        {"KAIO109"},
        "broken",
    ),
    "storage without O_DIRECT, threads with cache.direct": (
        o.runtime(values={"block_device_aio": "threads"}),
        o.observations(storage=o.storage(False)),
        {},
        {"KAIO109"},
        "broken",
    ),
    "storage without O_DIRECT is no matter for io_uring without cache.direct": (
        o.runtime(values={"block_device_aio": "io_uring", **CACHE_OFF}),
        o.observations([o.qemu(io_uring="refused", io_uring_cause="no_o_direct", io_uring_observed="io_uring")], storage=o.storage(False)),
        {},
        set(),
        "ok",
    ),
    "storage without O_DIRECT, and io_uring without cache.direct falls back": (
        o.runtime(values={"block_device_aio": "io_uring", **CACHE_OFF}),
        o.observations([o.qemu(io_uring="refused", io_uring_cause="no_o_direct", io_uring_observed="threads")], storage=o.storage(False)),
        {},
        {"KAIO105"},
        "degraded",
    ),
    "storage without O_DIRECT, and io_uring was not seen": (
        o.runtime(values={"block_device_aio": "io_uring", **CACHE_OFF}),
        o.observations([o.qemu(io_uring="refused", io_uring_cause="no_o_direct")], storage=o.storage(False)),
        {},
        {"KAIO011"},
        "unknown",
    ),
    "io_uring refused, though not by the kernel": (
        o.runtime(values={"block_device_aio": "io_uring", **CACHE_OFF}),
        o.observations([o.qemu(io_uring="refused", io_uring_cause="io_error")]),
        {},
        {"KAIO122"},
        "broken",
    ),
    "F7 guest swap": (o.runtime(values={"enable_guest_swap": True}), o.observations(), {}, {"KAIO111"}, "broken"),
    "F7 not in runtime-rs": (o.runtime("rs", "4.1.0", values={"enable_guest_swap": True}), o.observations(), {}, set(), "ok"),
    "F8 firmware": (
        o.runtime(),
        o.observations([o.qemu(firmware={"search_paths": ["/x"], "missing": ["bios-256k.bin"], "found": {}, "reason": None})]),
        {},
        {"KAIO112"},
        "broken",
    ),
    "missing key means io_uring": (
        o.runtime(values={"block_device_aio": "", **CACHE_OFF}),
        o.observations([o.qemu(io_uring="not_compiled")]),
        {},
        {"KAIO103"},
        "broken",
    ),
    "threads": (
        o.runtime(values={"block_device_aio": "threads", **CACHE_OFF}),
        o.observations([o.qemu(native="not_compiled", io_uring="not_compiled")]),
        {},
        set(),
        "ok",
    ),
    "threads where the fleet wants native": (
        o.runtime(values={"block_device_aio": "threads", **CACHE_OFF}),
        o.observations(),
        {"engine": "native"},
        {"KAIO120"},
        "degraded",
    ),
    "a value that Kata refuses": (
        o.runtime(values={"block_device_aio": "Native"}, problems=[{"code": "invalid_aio", "where": None, "detail": "Native"}]),
        o.observations(),
        {},
        {"KAIO115"},
        "broken",
    ),
    "Kata 2.5 ignores the key": (
        o.runtime(release="2.5.2", problems=[{"code": "aio_ignored", "where": None, "detail": "native"}]),
        o.observations([o.qemu(native="not_compiled")]),
        {},
        {"KAIO118"},
        "degraded",
    ),
    "no base file": (
        o.runtime(values={"block_device_aio": None, "path": None}, problems=[{"code": "base_missing", "where": None, "detail": "gone"}]),
        o.observations([]),
        {},
        {"KAIO002"},
        "broken",
    ),
    "a stray file in config.d": (
        o.runtime(problems=[{"code": "drop_in_toml_invalid", "where": "/x/config.d/README", "detail": "line 1"}]),
        o.observations(),
        {},
        {"KAIO221"},
        "broken",
    ),
    "disable_block_device_use, and QEMU has no libaio": (
        o.runtime(release="3.28.0", values={"disable_block_device_use": True}),
        o.observations([o.qemu(native="not_compiled")]),
        {},
        {"KAIO101"},
        "broken",
    ),
    "disable_block_device_use, and QEMU is too strict for the release": (
        o.runtime(values={"disable_block_device_use": True}),
        o.observations([o.qemu(version="10.0.13")]),
        {},
        {"KAIO123"},
        "broken",
    ),
    "disable_block_device_use, and all is well": (o.runtime(values={"disable_block_device_use": True}), o.observations(), {}, set(), "ok"),
    "disable_block_device_use in runtime-rs": (
        o.runtime("rs", "4.1.0", values={"disable_block_device_use": True}),
        o.observations(),
        {},
        {"KAIO125"},
        "degraded",
    ),
    "disable_block_device_use in runtime-rs, and QEMU has no libaio": (
        o.runtime("rs", "4.1.0", values={"disable_block_device_use": True}),
        o.observations([o.qemu(native="not_compiled")]),
        {},
        {"KAIO101", "KAIO125"},
        "broken",
    ),
    "a missing libaio does not hide guest swap": (
        o.runtime(values={"enable_guest_swap": True}),
        o.observations([o.qemu(native="not_compiled")]),
        {},
        {"KAIO101", "KAIO111"},
        "broken",
    ),
    "a missing libaio does not hide the storage": (
        o.runtime(),
        o.observations([o.qemu(native="not_compiled")], storage=o.storage(False)),
        {},
        {"KAIO101", "KAIO109"},
        "broken",
    ),
    "a silent QEMU does not hide guest swap, nor the limit": (
        o.runtime(values={"enable_guest_swap": True}),
        o.observations([o.qemu(status="timed_out", reason="why")], kernel=o.kernel(65536)),
        {},
        {"KAIO008", "KAIO108", "KAIO111"},
        "broken",
    ),
    "threads that fail on the image": (
        o.runtime(values={"block_device_aio": "threads", **CACHE_OFF}),
        o.observations([o.qemu(threads="refused")]),
        {},
        {"KAIO122"},
        "broken",
    ),
    "threads that were not seen": (
        o.runtime(values={"block_device_aio": "threads", **CACHE_OFF}),
        o.observations([o.qemu(threads="unknown")]),
        {},
        {"KAIO011"},
        "unknown",
    ),
    "the limit is lost at the next boot": (o.runtime(), o.observations(kernel=o.kernel(boot=None)), {}, {"KAIO127"}, "degraded"),
    "a sysctl file sets too little": (o.runtime(), o.observations(kernel=o.kernel(boot=70000)), {}, {"KAIO127"}, "degraded"),
    "a sysctl file sets enough": (o.runtime(), o.observations(kernel=o.kernel(boot=131072)), {}, set(), "ok"),
    "the next boot is of no importance to io_uring": (
        o.runtime(values={"block_device_aio": "io_uring"}),
        o.observations(kernel=o.kernel(boot=None)),
        {},
        set(),
        "ok",
    ),
    "distribution's QEMU without 9p": (
        o.runtime(values={"path": "/usr/bin/qemu-system-x86_64"}),
        o.observations([o.qemu("/usr/bin/qemu-system-x86_64", devices_missing=["virtio-9p-pci"])]),
        {},
        {"KAIO121"},
        "degraded",
    ),
    "another hypervisor": (o.runtime(hypervisor="clh"), o.observations([]), {}, set(), "not_applicable"),
    "another hypervisor, refused": (
        o.runtime(hypervisor="clh", refused=True, problems=[{"code": "second_hypervisor", "where": "/x", "detail": "[hypervisor.qemu]"}]),
        o.observations([]),
        {},
        {"KAIO227"},
        "broken",
    ),
    "another hypervisor, with a remark": (
        o.runtime(hypervisor="fc", problems=[{"code": "key_other_case", "where": "/x", "detail": "Path"}]),
        o.observations([]),
        {},
        set(),
        "not_applicable",
    ),
    "a hypervisor that does not exist": (o.runtime(hypervisor="QEMU"), o.observations(), {}, {"KAIO204"}, "broken"),
    "several hypervisors leave no QEMU to judge": (
        o.runtime(hypervisor=None, refused=True, values={"path": None}, problems=[{"code": "several_hypervisors", "where": "/x", "detail": "qemu, fc"}]),
        o.observations(),
        {},
        {"KAIO203"},
        "broken",
    ),
    "no hypervisor can be told, and nothing says why": (o.runtime(hypervisor=None, values={"path": None}), o.observations(), {}, {"KAIO011"}, "unknown"),
}


@pytest.mark.parametrize("name", CASES)
def test_case(name):
    runtime, observations, policy, expected, verdict = CASES[name]
    judged = assess(observations, [runtime], o.policy(**policy))
    assert {f["id"] for f in judged["findings"] if f["severity"] != "info"} == expected
    assert judged["verdict"] == verdict


# (runtime, release, QEMU, block_device_driver) -> arguments that are refused; what Debian 13's QEMU 10.0.13 answered to the requests of these releases
# is in tests/integration_lab/test_qemu_matrix.py.
STRICT = {
    ("go", "3.7.0", "10.0.13", "virtio-scsi"): ["share-rw", "core-id"],
    ("go", "3.7.0", "10.0.13", "virtio-blk"): ["share-rw", "core-id", "num-queues"],
    ("go", "3.7.0", "9.2.0", "virtio-blk"): ["share-rw", "core-id", "num-queues"],
    ("go", "3.7.0", "9.1.2", "virtio-blk"): [],
    ("go", "2.5.2", "10.0.13", "virtio-scsi"): ["share-rw", "core-id"],
    ("go", "3.14.0", "10.0.13", "virtio-scsi"): ["core-id"],
    ("go", "3.20.0", "10.0.13", "virtio-scsi"): [],
    ("go", "3.20.0", "10.0.13", "virtio-blk"): ["num-queues"],
    ("go", "3.20.0", "10.0.13", "virtio-blk-ccw"): [],
    ("go", "3.22.0", "10.0.13", "virtio-blk"): [],
    ("go", None, "10.0.13", "virtio-blk"): [],
    ("go", "3.7.0", None, "virtio-blk"): [],
    ("rs", "3.7.0", "10.0.13", "virtio-blk-pci"): [],
}


@pytest.mark.parametrize(("kind", "release", "version", "driver"), STRICT)
def test_a_qemu_that_is_too_strict_for_the_release(kind, release, version, driver):
    runtime = o.runtime(kind, release, values={"block_device_driver": driver, "block_device_aio": "threads"})
    observations = o.observations([o.qemu(version=version)])
    refused = STRICT[kind, release, version, driver]
    assert [argument["name"] for argument in hot_plug_refused(runtime, observations["qemus"][0])] == refused
    found = [f for f in assess(observations, [runtime], o.policy())["findings"] if f["id"] == "KAIO123"]
    assert len(found) == (1 if {"share-rw", "num-queues"} & set(refused) else 0)
    for finding in found:
        assert all(name in finding["detail"] for name in refused)
        assert [item["answered"] for item in finding["evidence"]] == [version, release]
        assert finding["where"] == o.QEMU


@pytest.mark.parametrize(
    "status, expected",
    [
        ("missing", "KAIO005"),
        ("not_executable", "KAIO006"),
        ("foreign_architecture", "KAIO007"),
        ("timed_out", "KAIO008"),
        ("crashed", "KAIO009"),
        ("killed", "KAIO012"),
        ("not_qemu", "KAIO010"),
        ("unintelligible", "KAIO010"),
        ("unreadable", "KAIO006"),
    ],
)
def test_of_a_qemu_that_does_not_answer_nothing_else_is_said(status, expected):
    judged = assess(o.observations([o.qemu(status=status, reason="why")]), [o.runtime()], o.policy())
    assert [(f["id"], f["detail"]) for f in judged["findings"] if f["severity"] != "info"] == [(expected, "why")]
    assert judged["verdict"] == "broken"


def test_findings_carry_the_words_of_qemu():
    judged = assess(o.observations([o.qemu(native="not_compiled")]), [o.runtime()], o.policy())
    assert judged["findings"][0]["evidence"][0]["answered"] == o.NOT_COMPILED


def test_file_backed_volumes_are_told_but_do_not_change_the_verdict():
    judged = assess(o.observations(), [o.runtime()], o.policy())
    assert [f["id"] for f in judged["findings"]] == ["KAIO110"]
    assert judged["verdict"] == "ok"


@pytest.mark.parametrize("values, expected", [({}, 64), ({"enable_iothreads": True}, 32), ({"indep_iothreads": 3}, 16)])
def test_headroom_counts_every_iothread(values, expected):
    assert headroom(o.observations(kernel=o.kernel(65536)), values) == expected


def test_headroom_is_unknown_where_the_limits_are():
    limits = o.kernel()
    limits["aio"].update(max_nr=None, nr=None, free=None, contexts_free=None)
    assert headroom(o.observations(kernel=limits), {}) is None
    assert "KAIO108" not in {f["id"] for f in assess(o.observations(kernel=limits), [o.runtime()], o.policy())["findings"]}


def test_running_sandboxes_on_threads_are_told_apart_from_those_that_were_asked_to():
    processes = [o.sandbox(1), o.sandbox(2, observed=["threads"]), o.sandbox(3, observed=[])]
    judged = assess(o.observations(processes=processes), [o.runtime()], o.policy())
    found = [f for f in judged["findings"] if f["id"] == "KAIO301"]
    assert [f["detail"] for f in found] == ["1 of 3 sandboxes."]
    asked_for = assess(o.observations(processes=processes), [o.runtime(values={"block_device_aio": "threads"})], o.policy())
    assert not [f for f in asked_for["findings"] if f["id"] == "KAIO301"]


@pytest.mark.parametrize(
    ("changes", "aio", "fell_back"),
    [
        ({}, "native", True),
        ({}, "io_uring", False),  # its rings may well be io_uring's
        ({"aio_contexts": 1}, "native", False),
        ({"aio_contexts": None}, "native", False),
        ({"event_loop_rings": None}, "native", False),
        ({"event_loop_rings": 0, "io_uring_rings": 0}, "native", False),
        ({"block_devices_open": None}, "native", False),
        ({"block_devices_open": []}, "native", False),
    ],
)
def test_a_fall_back_is_told_behind_an_event_loop_on_io_uring(changes, aio, fell_back):
    """QEMU 10.2 and newer: the engine cannot be observed, but native would show."""
    process = o.sandbox(5, observed=None, **{"event_loop_rings": 2, "io_uring_rings": 2, **changes})
    judged = assess(o.observations(processes=[process]), [o.runtime(values={"block_device_aio": aio})], o.policy())
    found = [f for f in judged["findings"] if f["id"] == "KAIO301"]
    assert bool(found) is fell_back
    if found:
        assert "0 [aio] mappings, 2 io_uring rings (2 of them the event loop's)" in found[0]["evidence"][0]["answered"]


def test_a_replaced_binary_is_told():
    judged = assess(o.observations(processes=[o.sandbox(7, binary_state="deleted")]), [o.runtime()], o.policy())
    assert [f["id"] for f in judged["findings"] if f["affects"] == "sandboxes"] == ["KAIO302"]


def test_a_runtime_without_handler_does_not_speak_for_the_host():
    unused = o.runtime(handlers=(), config="/etc/kata-containers/configuration.toml", values=CACHE_OFF)
    judged = assess(o.observations(), [o.runtime(), unused], o.policy())
    assert judged["verdicts"][unused["id"]] == "broken"
    assert judged["verdict"] == "ok"
    assert assess(o.observations(), [unused], o.policy())["verdict"] == "broken"


def test_a_host_without_kata():
    judged = assess(o.observations([]), [], o.policy())
    assert [f["id"] for f in judged["findings"]] == ["KAIO001"]
    assert judged["verdict"] == "not_applicable"


@pytest.mark.parametrize("release, expected", [("3.7.0", []), ("3.8.0", ["KAIO401"]), (None, [])])
def test_a_qemu_that_was_chosen_for_an_earlier_release_is_told(release, expected):
    drop_in = "/opt/kata/share/defaults/kata-containers/config.d/60-kataops-aio.toml"
    runtime = o.runtime(release=release, sources={"path": drop_in})
    judged = assess(o.observations(changed_by_us={drop_in: {o.CONFIG: "3.7.0"}}), [runtime], o.policy())
    assert [f["id"] for f in judged["findings"] if f["severity"] != "info"] == expected


@pytest.mark.parametrize(
    ("kind", "release", "comes"),
    [("go", "3.28.0", "volumeDevices do"), ("go", "4.1.0", "volumeDevices and emptyDirs"), ("go", None, "from Kata 4.0.0"), (None, None, "from Kata 4.0.0")],
)
def test_which_block_devices_the_key_keeps_away_is_told_by_release(kind, release, comes):
    runtime = o.runtime(kind, release, values={"disable_block_device_use": True})
    (found,) = [f for f in assess(o.observations(), [runtime], o.policy())["findings"] if f["id"] == "KAIO119"]
    assert comes in found["detail"]
    assert "root file system" in found["detail"]
    assert found["severity"] == "info"


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        ({"errno": "ENOSYS", "release": "4.18.0-553.el8.x86_64"}, "came with 5.1"),
        ({"errno": "ENOSYS", "release": "5.14.0-70.el9.x86_64"}, "seccomp filter answers ENOSYS, or this kernel was built without CONFIG_IO_URING"),
        ({"errno": "ENOSYS", "release": "?"}, "seccomp filter"),
        ({"errno": "EPERM", "disabled": 2}, "kernel.io_uring_disabled is 2"),
        ({"errno": "EPERM", "disabled": 0}, "(kernel.io_uring_disabled is 0): a seccomp filter or a security module"),
        ({"errno": "ENOMEM"}, "RLIMIT_MEMLOCK"),
    ],
)
@pytest.mark.parametrize("outcome", ["refused", "falls_back"])
def test_why_there_is_no_ring_is_the_kernels_own_answer(kernel, words, outcome):
    runtime = o.runtime(values={"block_device_aio": "io_uring", **CACHE_OFF})
    observations = o.observations([o.qemu(io_uring=outcome)], kernel=o.kernel(io_uring_ok=False, **kernel))
    (found,) = [f for f in assess(observations, [runtime], o.policy())["findings"] if f["severity"] != "info"]
    assert words in found["detail"]
    assert found["severity"] == {"refused": "error", "falls_back": "warning"}[outcome]


BASE_PROBLEMS = ("base_missing", "base_unreadable", "base_toml_invalid")
ALL_PROBLEMS = sorted(rule.key for rule in RULES.values() if "KAIO200" < rule.id < "KAIO240" or rule.key in BASE_PROBLEMS)


@pytest.mark.parametrize("hypervisor", [None, "qemu", "clh", "foo"])
@pytest.mark.parametrize("code", ALL_PROBLEMS)
def test_nothing_that_kata_refuses_is_passed_over(code, hypervisor):
    runtime = o.runtime(hypervisor=hypervisor, refused=True, problems=[{"code": code, "where": "/x", "detail": "seen"}])
    judged = assess(o.observations(), [runtime], o.policy())
    assert judged["verdict"] == judged["verdicts"][runtime["id"]] == "broken"
    assert any(f["severity"] == "error" and f["runtime"] == runtime["id"] for f in judged["findings"])


def test_a_refusal_without_any_problem_is_told_all_the_same():
    judged = assess(o.observations(), [o.runtime(refused=True)], o.policy())
    assert ({f["id"] for f in judged["findings"] if f["severity"] == "error"}, judged["verdict"]) == ({"KAIO238"}, "broken")


@pytest.mark.parametrize("name", CASES)
def test_no_finding_names_what_is_not_there(name):
    """No engine finding without a QEMU, and no None in a text for people."""
    runtime, observations, policy, _expected, _verdict = CASES[name]
    for found in assess(observations, [runtime], o.policy(**policy))["findings"]:
        assert "None" not in (found["detail"] or "")
        assert found["where"] or found["affects"] in ("sandboxes", "host")


@pytest.mark.parametrize(
    ("patterns", "excluded"),
    [
        ([], False),
        (["kata-qemu"], False),  # the other handler still uses it
        (["kata-*"], True),
        (["kata-qemu", "kata-x"], True),
        ([o.CONFIG], True),
        (["/opt/kata/*"], True),
        (["KATA-*"], False),
    ],
)
def test_a_runtime_that_is_left_out_is_named_and_not_judged(patterns, excluded):
    runtime = o.runtime(handlers=("kata-qemu", "kata-x"))
    judged = assess(o.observations([o.qemu(native="not_compiled")]), [runtime], o.policy(exclude=patterns))
    assert judged["verdict"] == ("not_applicable" if excluded else "broken")
    assert ("KAIO016" in {f["id"] for f in judged["findings"]}) is excluded
    assert ("KAIO101" in {f["id"] for f in judged["findings"]}) is not excluded
    assert judged["engines"][runtime["id"]]["effective"] == (None if excluded else "none")


def test_a_host_without_kvm_is_told_but_its_block_io_is_judged_as_it_is():
    without = o.observations(kernel=dict(o.kernel(), kvm={"usable": False, "reason": "/dev/kvm: No such file or directory.", "evidence": []}))
    judged = assess(without, [o.runtime()], o.policy())
    assert [(f["id"], f["severity"], f["runtime"]) for f in judged["findings"] if f["severity"] != "info"] == [("KAIO015", "error", None)]
    assert judged["verdict"] == "ok"
    assert assess(without, [o.runtime(hypervisor="clh")], o.policy())["findings"] == []
    unknown = o.observations(kernel=dict(o.kernel(), kvm={"usable": None, "reason": "not root", "evidence": []}))
    assert not [f for f in assess(unknown, [o.runtime()], o.policy())["findings"] if f["id"] == "KAIO015"]


@pytest.mark.parametrize(
    ("runtime", "qemus", "requested", "effective"),
    [
        (o.runtime(), [o.qemu()], "native", "native"),
        (o.runtime(), [o.qemu(native="falls_back")], "native", "threads"),
        (o.runtime(), [o.qemu(native="not_compiled")], "native", "none"),
        (o.runtime(values=CACHE_OFF), [o.qemu()], "native", "none"),
        (o.runtime(), [], "native", None),
        (o.runtime("rs", "3.20.0"), [o.qemu()], "io_uring", "io_uring"),
        (o.runtime("rs", "3.19.0"), [o.qemu()], "threads", "threads"),
        (o.runtime(hypervisor="clh"), [o.qemu()], None, None),
        (o.runtime(values={"disable_block_device_use": True}), [o.qemu()], "native", "native"),
        (o.runtime("rs", "4.1.0", values={"disable_block_device_use": True}), [o.qemu()], "native", "none"),
        (
            o.runtime(values={"block_device_aio": "io_uring", **CACHE_OFF}),
            [o.qemu(io_uring="refused", io_uring_cause="no_o_direct", io_uring_observed="io_uring")],
            "io_uring",
            "io_uring",
        ),
    ],
)
def test_what_a_sandbox_that_starts_now_gets(runtime, qemus, requested, effective):
    engine = assess(o.observations(qemus), [runtime], o.policy())["engines"][runtime["id"]]
    assert (engine["requested"], engine["effective"]) == (requested, effective)


def test_every_rule_is_written_for_people():
    for rule in RULES.values():
        text = " ".join((rule.title, rule.why, rule.remedy))
        assert not re.search(r"\(F\d|somebody|\banew\b|for ever\b|(?<!there) is no (?!longer)", text.replace("There is", "there is")), rule.id

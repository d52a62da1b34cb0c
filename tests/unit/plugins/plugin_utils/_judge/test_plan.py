# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan takes the cheapest sufficient strategy, and none where nothing is to be done."""

from __future__ import annotations

import pytest
from ansible_collections.kataops.aio.plugins.plugin_utils._judge.assess import assess
from ansible_collections.kataops.aio.plugins.plugin_utils._judge.plan import make_plan
from ansible_collections.kataops.aio.tests.unit.plugins.plugin_utils import observed as o

CACHE_OFF = {"block_device_cache_set": False, "block_device_cache_direct": False}
BROKEN = o.qemu(native="not_compiled")
DEBIAN = o.qemu("/usr/bin/qemu-system-x86_64")
TREE = o.qemu("/opt/kataops/qemu/qemu-8.2.4-x86_64-static-0123456789ab/bin/qemu-system-x86_64")
NATIVE_KEYS = {"block_device_aio": "native", "block_device_cache_set": True, "block_device_cache_direct": True}


def plan(runtime, observations, **changes):
    policy = o.policy(**changes)
    return make_plan(observations, [runtime], assess(observations, [runtime], policy), policy)


def test_a_healthy_host_needs_nothing():
    made = plan(o.runtime(), o.observations())
    assert (made["needed"], made["strategy"], made["settings"], made["limits"], made["qemu"]) == (False, "none", [], None, None)


@pytest.mark.parametrize(
    "name, observations, changes, strategy, path",
    [
        ("only the keys", o.observations(), {}, "configuration", None),
        ("the distribution's QEMU", o.observations([BROKEN, DEBIAN]), {}, "reuse", DEBIAN["path"]),
        ("our tree before the distribution's", o.observations([BROKEN, DEBIAN, TREE]), {}, "reuse", TREE["path"]),
        ("reuse not allowed", o.observations([BROKEN, DEBIAN]), {"strategies": ["configuration", "rebuild"]}, "rebuild", None),
        ("an incomplete QEMU is not reused", o.observations([BROKEN, dict(DEBIAN, devices_missing=["vhost-vsock-pci"])]), {}, "rebuild", None),
        ("an artifact is given", o.observations([BROKEN]), {"artifact": "/srv/qemu.tar.xz"}, "replace", None),
        ("nothing is there", o.observations([BROKEN]), {}, "rebuild", None),
        ("the order is the user's", o.observations([BROKEN, DEBIAN]), {"strategies": ["rebuild", "reuse"]}, "rebuild", None),
        ("no strategy is left", o.observations([BROKEN]), {"strategies": ["configuration", "reuse"]}, "impossible", None),
        ("fall back", o.observations([BROKEN]), {"strategies": ["configuration"], "allow_fallback": True}, "fallback", None),
    ],
)
def test_strategies(name, observations, changes, strategy, path):
    values = CACHE_OFF if name == "only the keys" else {}
    made = plan(o.runtime(values=values), observations, **changes)
    assert made["strategy"] == strategy
    assert (made["qemu"] or {}).get("path") == path
    assert made["needed"]


def test_the_keys_of_the_go_runtime_come_together():
    made = plan(o.runtime(values=CACHE_OFF), o.observations())
    assert [r["keys"] for r in made["runtimes"]] == [NATIVE_KEYS]
    assert made["settings"] == [{"runtimes": [o.CONFIG], "engine": "native", "qemu_path": None, "method": "auto"}]


def test_reuse_names_the_path_in_the_same_settings():
    made = plan(o.runtime(values=CACHE_OFF), o.observations([BROKEN, DEBIAN]))
    assert made["runtimes"][0]["keys"] == dict(NATIVE_KEYS, path=DEBIAN["path"])
    assert made["settings"][0]["qemu_path"] == DEBIAN["path"]


def test_io_uring_that_the_kernel_refuses_becomes_native():
    observations = o.observations([o.qemu(io_uring="refused")], kernel=o.kernel(io_uring_ok=False, disabled=2))
    made = plan(o.runtime(values={"block_device_aio": "io_uring", **CACHE_OFF}), observations)
    assert (made["strategy"], made["engine"]) == ("configuration", "native")


def test_limits_alone_are_raised_without_touching_the_configuration():
    made = plan(o.runtime(), o.observations(kernel=o.kernel(65536)))
    assert (made["strategy"], made["limits"], made["settings"]) == ("configuration", {"aio_max_nr": 1048576}, [])


def test_a_limit_is_never_lowered():
    made = plan(o.runtime(), o.observations(kernel=o.kernel(2097152, 2097152 - 1024)))
    assert made["limits"]["aio_max_nr"] >= 2097152 - 1024 + 128 * 1024


def test_exhausted_aio_is_repaired_by_the_limit():
    observations = o.observations([o.qemu(native="refused")], kernel=o.kernel(65536, 65536, io_setup_ok=False))
    made = plan(o.runtime(), observations)
    assert (made["strategy"], made["limits"]) == ("configuration", {"aio_max_nr": 1048576})


def test_rs_3_28_falls_back_only_where_that_is_allowed():
    assert plan(o.runtime("rs", "3.28.0"), o.observations())["strategy"] == "impossible"
    made = plan(o.runtime("rs", "3.28.0"), o.observations(), allow_fallback=True)
    assert (made["strategy"], made["engine"]) == ("fallback", "io_uring")


def test_a_mistake_that_needs_a_person_is_named_and_nothing_is_done():
    made = plan(o.runtime(values={"enable_guest_swap": True, **CACHE_OFF}), o.observations())
    assert (made["needed"], made["strategy"], made["settings"]) == (True, "impossible", [])
    assert "KAIO111" in " ".join(made["reasons"])
    assert [item["runtime"] for item in made["remaining"]] == [o.CONFIG]


STALE = "/opt/kata/share/defaults/kata-containers/custom-runtimes/debug/configuration-qemu.toml"


def a_runtime_that_only_a_person_can_repair(code="base_missing", hypervisor="qemu"):
    problems = [{"code": code, "where": STALE, "detail": "seen"}]
    return o.runtime(config=STALE, handlers=("kata-debug",), hypervisor=hypervisor, refused=True, values={"path": None}, problems=problems)


@pytest.mark.parametrize("code", ["base_missing", "shim_missing", "drop_in_toml_invalid", "several_hypervisors"])
@pytest.mark.parametrize("hypervisor", ["qemu", "clh", None])
def test_one_bad_handler_does_not_keep_the_others_from_being_repaired(code, hypervisor):
    stale, good = a_runtime_that_only_a_person_can_repair(code, hypervisor), o.runtime(values=CACHE_OFF)
    runtimes, observations, policy = [stale, good], o.observations(), o.policy()
    made = make_plan(observations, runtimes, assess(observations, runtimes, policy), policy)
    assert (made["needed"], made["strategy"]) == (True, "configuration")
    assert [setting["runtimes"] for setting in made["settings"]] == [[o.CONFIG]]
    assert [(item["runtime"], item["handlers"]) for item in made["remaining"]] == [(STALE, ["kata-debug"])]
    assert [way["remaining"] for way in made["alternatives"]] == [made["remaining"]] * len(made["alternatives"])
    assert any(reason.startswith("%s (kata-debug) stays as it is: " % STALE) for reason in made["reasons"])


def test_a_runtime_that_no_strategy_is_left_for_does_not_keep_the_others_from_being_repaired():
    old = o.runtime("rs", "3.28.0", config=STALE, handlers=("kata-rs",))
    runtimes, observations, policy = [old, o.runtime(values=CACHE_OFF)], o.observations(), o.policy()
    made = make_plan(observations, runtimes, assess(observations, runtimes, policy), policy)
    assert (made["strategy"], [item["runtime"] for item in made["remaining"]]) == ("configuration", [STALE])
    assert "cannot use native" in made["remaining"][0]["reason"]


def test_a_runtime_that_is_left_out_is_not_planned_for():
    made = plan(o.runtime(values=CACHE_OFF), o.observations(), exclude=["kata-*"])
    assert (made["needed"], made["strategy"], made["settings"], made["remaining"]) == (False, "none", [], [])


@pytest.mark.parametrize(("boot", "limits"), [(None, {"aio_max_nr": 1048576}), (65536, {"aio_max_nr": 1048576}), (1048576, None)])
def test_a_limit_that_the_next_boot_would_lose_is_kept(boot, limits):
    made = plan(o.runtime(), o.observations(kernel=o.kernel(1048576, boot=boot)))
    assert (made["needed"], made["limits"], made["settings"]) == (limits is not None, limits, [])


def test_what_a_repair_costs_stands_in_the_plan():
    made = plan(o.runtime(values=CACHE_OFF), o.observations())
    assert [price for price in made["prices"] if "KAIO110" in price and "File-backed" in price]
    assert plan(o.runtime(values={"block_device_cache_direct": False}), o.observations())["prices"] == []  # it is lost already
    assert plan(o.runtime("rs", "4.1.0", values=CACHE_OFF), o.observations())["prices"] == []


def test_the_plan_has_the_options_of_its_proof():
    made = plan(o.runtime(values=dict(CACHE_OFF, seccompsandbox="on,obsolete=deny", block_device_driver="nvdimm")), o.observations([BROKEN, DEBIAN]))
    assert made["runtimes"][0]["proof"] == {
        "binary": DEBIAN["path"],
        "runtime": "go",
        "release": "3.7.0",
        "engine": "native",
        "cache_set": True,
        "cache_direct": True,
        "block_device_driver": "virtio-scsi",
        "machine_type": None,
        "seccompsandbox": "on,obsolete=deny",
    }
    assert plan(o.runtime(), o.observations([BROKEN]))["runtimes"][0]["proof"]["binary"] == ""  # it is staged first


def test_io_uring_that_qemu_is_refused_is_not_what_a_plan_leads_to():
    """Its own filter (seccompsandbox) or limit counts, whatever the call answered to us."""
    runtime = o.runtime(values=dict(CACHE_OFF, block_device_aio="io_uring"))
    assert plan(runtime, o.observations([o.qemu(io_uring="refused")]))["engine"] == "native"


def test_storage_without_direct_is_no_case_for_native():
    observations = o.observations([o.qemu(native="refused")], storage=o.storage(False))
    made = plan(o.runtime(), observations)
    assert made["strategy"] == "impossible"
    assert "O_DIRECT" in made["reasons"][0]


KATA_STATIC = "https://example.org/kata-static-3.20.0-amd64.tar.xz"
ALL = {"artifact": "/srv/qemu.tar.xz", "package": True, "allow_fallback": True}


def test_every_strategy_that_is_open_here_is_an_alternative_in_the_users_order():
    made = plan(o.runtime(), o.observations([BROKEN, DEBIAN, TREE]), **ALL)
    ways = [made, *made["alternatives"]]
    assert [way["uses"] for way in ways] == [
        ["reuse of %s" % TREE["path"]],
        ["reuse of %s" % DEBIAN["path"]],
        ["replace with /srv/qemu.tar.xz"],
        ["replace with the distribution's package"],
        ["rebuild"],
        ["fall back to io_uring"],
    ]
    assert [(way["qemu"] or {}).get("source") for way in ways] == ["existing", "existing", "artifact", "package", "build", None]
    assert [way["engine"] for way in ways] == ["native"] * 5 + ["io_uring"]
    assert ways[-1]["settings"][0]["requested_engine"] == "native"
    other_order = plan(o.runtime(), o.observations([BROKEN, DEBIAN]), strategies=["rebuild", "reuse"])
    assert [way["strategy"] for way in (other_order, *other_order["alternatives"])] == ["rebuild", "reuse"]


def test_no_other_engine_unless_the_user_allows_it():
    made = plan(o.runtime(), o.observations([BROKEN, DEBIAN]), strategies=["reuse"])
    assert (made["strategy"], made["alternatives"]) == ("reuse", [])


def test_configuration_that_fails_on_the_host_leaves_the_strategies_to_another_qemu():
    made = plan(o.runtime(values=CACHE_OFF), o.observations([o.qemu(), DEBIAN]))
    assert [way["strategy"] for way in (made, *made["alternatives"])] == ["configuration", "reuse", "rebuild"]


@pytest.mark.parametrize(
    "artifact, architecture, expected",
    [
        (KATA_STATIC, "x86_64", {"source": "build", "build": "kata-static-3.20.0-x86_64", "release": "3.20.0", "artifact": KATA_STATIC, "sha256": "ab" * 32}),
        ("/srv/kata-static-3.7.0-rc1-arm64.tar.zst", "aarch64", {"source": "build", "kind": "kata_static", "release": "3.7.0-rc1"}),
        ("/srv/qemu-8.2.4-x86_64-static-0123456789ab.tar.xz", "x86_64", {"source": "artifact"}),
        ("/srv/kata-static-3.20.0-arm64.tar.zst", "x86_64", None),
    ],
)
def test_what_replaces_is_told_by_its_name(artifact, architecture, expected):
    observations = o.observations([BROKEN])
    observations["host"]["architecture"] = architecture
    made = plan(o.runtime(), observations, artifact=artifact, artifact_sha256="ab" * 32, strategies=["replace"])
    if expected is None:
        assert made["strategy"] == "impossible"
    else:
        assert made["strategy"] == "replace"
        assert made["qemu"].items() >= expected.items()


RS = o.CONFIG.replace("-qemu", "-qemu-runtime-rs")


def two_runtimes(**changes):
    """One whose QEMU has native and lacks the keys only, one whose QEMU does not have it."""
    good = o.runtime(values=dict(CACHE_OFF, path=DEBIAN["path"]))
    bad = o.runtime("rs", "4.0.0", config=RS)
    observations, policy = o.observations([BROKEN, DEBIAN]), o.policy(**changes)
    runtimes = [good, bad]
    return make_plan(observations, runtimes, assess(observations, runtimes, policy), policy)


def test_a_way_serves_all_runtimes_of_a_host():
    made = two_runtimes()
    assert made["uses"] == ["configuration with %s" % DEBIAN["path"], "reuse of %s" % DEBIAN["path"]]
    assert [(r["runtime"], r["strategy"]) for r in made["runtimes"]] == [(o.CONFIG, "configuration"), (RS, "reuse")]


def test_what_failed_for_one_runtime_is_not_tried_again_and_the_other_keeps_its_strategy():
    made = two_runtimes()
    ways = [made, *made["alternatives"]]
    left = [way for way in ways if "configuration with %s" % DEBIAN["path"] not in way["uses"]]
    assert left[0]["uses"] == ["rebuild", "reuse of %s" % DEBIAN["path"]]
    left = [way for way in ways if "reuse of %s" % DEBIAN["path"] not in way["uses"]]
    assert left[0]["uses"] == ["configuration with %s" % DEBIAN["path"], "rebuild"]
    left = [way for way in left if "rebuild" not in way["uses"]]
    assert [(way["uses"], [item["runtime"] for item in way["remaining"]]) for way in left] == [(["configuration with %s" % DEBIAN["path"]], [RS])]
    assert [bool(way["remaining"]) for way in ways] == sorted(bool(way["remaining"]) for way in ways)


def test_a_host_that_fell_back_goes_on_trying_for_the_engine_that_was_wanted():
    threads = o.runtime(values={"block_device_aio": "threads", **CACHE_OFF})
    fell_back = {o.CONFIG: {o.CONFIG: "native"}}
    made = plan(threads, o.observations([BROKEN, DEBIAN], fell_back=fell_back))
    assert (made["strategy"], made["engine"]) == ("reuse", "native")
    made = plan(threads, o.observations([o.qemu(native="not_compiled", io_uring="refused")], fell_back=fell_back), strategies=["reuse"], allow_fallback=True)
    assert (made["strategy"], made["engine"], made["settings"]) == ("fallback", "threads", [])
    assert plan(threads, o.observations([BROKEN, DEBIAN], fell_back=fell_back), engine="threads")["needed"] is False
    assert plan(threads, o.observations([BROKEN, DEBIAN]))["needed"] is False


NEW = o.qemu("/usr/bin/qemu-system-x86_64", version="10.0.13")


@pytest.mark.parametrize(
    ("runtime", "qemus", "strategy", "path"),
    [
        (o.runtime(release="3.7.0"), [BROKEN, NEW], "rebuild", None),
        (o.runtime(release="3.7.0"), [BROKEN, NEW, TREE], "reuse", TREE["path"]),
        (o.runtime(release="3.7.0"), [BROKEN, dict(TREE, version="10.0.13"), DEBIAN], "reuse", DEBIAN["path"]),
        (o.runtime(release="3.19.0"), [BROKEN, NEW], "rebuild", None),  # its disks would do, its vCPUs would not
        (o.runtime(release="3.22.0"), [BROKEN, NEW], "reuse", NEW["path"]),
        (o.runtime("rs", "3.29.0"), [BROKEN, NEW], "reuse", NEW["path"]),
        # The configured one is too new itself.
        (o.runtime(release="3.7.0"), [o.qemu(version="10.0.13")], "rebuild", None),
        (o.runtime(release="3.7.0"), [o.qemu(version="10.0.13"), DEBIAN], "reuse", DEBIAN["path"]),
    ],
)
def test_no_qemu_that_is_too_strict_for_the_release_is_chosen(runtime, qemus, strategy, path):
    made = plan(runtime, o.observations(qemus))
    assert (made["strategy"], (made["qemu"] or {}).get("path")) == (strategy, path)


def test_a_qemu_that_is_too_strict_is_nothing_to_fall_back_to():
    broken = o.qemu(version="10.0.13", native="not_compiled")
    made = plan(o.runtime(), o.observations([broken]), strategies=["configuration"], allow_fallback=True)
    assert made["strategy"] == "impossible"


RO = "its file system is mounted read-only"


def read_only(**changes):
    return dict({"base_file": RO, "drop_in": RO, "override": None}, **changes)


@pytest.mark.parametrize("safe", [True, False])
def test_a_configuration_that_cannot_be_written_is_foreseen_with_the_text_to_put_in(safe):
    runtime = o.runtime(values=CACHE_OFF, read_only=read_only(), drop_in={"safe": safe, "reason": None})
    made = plan(runtime, o.observations())
    assert (made["needed"], made["strategy"], made["settings"]) == (True, "impossible", [])
    (left,) = made["remaining"]
    assert RO in left["reason"]
    for line in ('block_device_aio = "native"', "block_device_cache_set = true", "block_device_cache_direct = true", "[hypervisor.qemu]", o.CONFIG):
        assert line in left["reason"]
    assert ("60-kataops-aio.toml" in left["reason"]) is safe
    assert "ConfigPath" in left["reason"]  # this runtime's handler names its file


def test_what_is_read_before_a_configuration_that_cannot_be_written_is_offered():
    place = "/etc/kata-containers/configuration.toml"
    runtime = o.runtime(values=CACHE_OFF, read_only=read_only(override=place))
    (left,) = plan(runtime, o.observations())["remaining"]
    assert "copy %s to %s" % (o.CONFIG, place) in left["reason"]


@pytest.mark.parametrize(
    ("changes", "method", "strategy"),
    [
        ({"drop_in": None}, "auto", "configuration"),
        ({"drop_in": None}, "base_file", "impossible"),
        ({"base_file": None}, "base_file", "configuration"),
        ({"base_file": None}, "drop_in", "impossible"),
    ],
)
def test_only_the_file_that_would_be_written_counts(changes, method, strategy):
    assert plan(o.runtime(values=CACHE_OFF, read_only=read_only(**changes)), o.observations(), method=method)["strategy"] == strategy


def test_what_needs_no_writing_is_repaired_on_a_read_only_system():
    made = plan(o.runtime(read_only=read_only()), o.observations(kernel=o.kernel(65536)))
    assert (made["strategy"], made["limits"], made["remaining"]) == ("configuration", {"aio_max_nr": 1048576}, [])


def test_a_runtime_on_a_read_only_system_does_not_keep_the_others_from_being_repaired():
    fixed = o.runtime(config=STALE, values=CACHE_OFF, read_only=read_only())
    runtimes, observations, policy = [fixed, o.runtime(values=CACHE_OFF)], o.observations(), o.policy()
    made = make_plan(observations, runtimes, assess(observations, runtimes, policy), policy)
    assert ([s["runtimes"] for s in made["settings"]], [item["runtime"] for item in made["remaining"]]) == ([[o.CONFIG]], [STALE])

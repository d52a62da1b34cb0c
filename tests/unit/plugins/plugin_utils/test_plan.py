# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan takes the cheapest sufficient road, and none where nothing is to be done."""

from __future__ import annotations

import pytest
from ansible_collections.kataops.aio.plugins.plugin_utils._assess import assess
from ansible_collections.kataops.aio.plugins.plugin_utils._plan import make_plan
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
    assert (made["needed"], made["road"], made["settings"], made["limits"], made["qemu"]) == (False, "none", [], None, None)


@pytest.mark.parametrize(
    "name, observations, changes, road, path",
    [
        ("only the keys", o.observations(), {}, "configuration", None),
        ("the distribution's QEMU", o.observations([BROKEN, DEBIAN]), {}, "reuse", DEBIAN["path"]),
        ("our tree before the distribution's", o.observations([BROKEN, DEBIAN, TREE]), {}, "reuse", TREE["path"]),
        ("reuse not allowed", o.observations([BROKEN, DEBIAN]), {"roads": ["configuration", "rebuild"]}, "rebuild", None),
        ("an incomplete QEMU is not reused", o.observations([BROKEN, dict(DEBIAN, devices_missing=["vhost-vsock-pci"])]), {}, "rebuild", None),
        ("an artifact is given", o.observations([BROKEN]), {"artifact": "/srv/qemu.tar.xz"}, "replace", None),
        ("nothing is there", o.observations([BROKEN]), {}, "rebuild", None),
        ("the order is the user's", o.observations([BROKEN, DEBIAN]), {"roads": ["rebuild", "reuse"]}, "rebuild", None),
        ("no road is left", o.observations([BROKEN]), {"roads": ["configuration", "reuse"]}, "impossible", None),
        ("fall back", o.observations([BROKEN]), {"roads": ["configuration"], "fall_back": True}, "fall_back", None),
    ],
)
def test_roads(name, observations, changes, road, path):
    values = CACHE_OFF if name == "only the keys" else {}
    made = plan(o.runtime(values=values), observations, **changes)
    assert made["road"] == road
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
    assert (made["road"], made["engine"]) == ("configuration", "native")


def test_limits_alone_are_raised_without_touching_the_configuration():
    made = plan(o.runtime(), o.observations(kernel=o.kernel(65536)))
    assert (made["road"], made["limits"], made["settings"]) == ("configuration", {"aio_max_nr": 1048576}, [])


def test_a_limit_is_never_lowered():
    made = plan(o.runtime(), o.observations(kernel=o.kernel(2097152, 2097152 - 1024)))
    assert made["limits"]["aio_max_nr"] >= 2097152 - 1024 + 128 * 1024


def test_exhausted_aio_is_repaired_by_the_limit():
    observations = o.observations([o.qemu(native="refused")], kernel=o.kernel(65536, 65536, io_setup_ok=False))
    made = plan(o.runtime(), observations)
    assert (made["road"], made["limits"]) == ("configuration", {"aio_max_nr": 1048576})


def test_rs_3_28_falls_back_only_where_that_is_allowed():
    assert plan(o.runtime("rs", "3.28.0"), o.observations())["road"] == "impossible"
    made = plan(o.runtime("rs", "3.28.0"), o.observations(), fall_back=True)
    assert (made["road"], made["engine"]) == ("fall_back", "io_uring")


def test_a_mistake_that_needs_a_person_stops_the_whole_host():
    made = plan(o.runtime(values={"enable_guest_swap": True, **CACHE_OFF}), o.observations())
    assert (made["road"], made["settings"]) == ("impossible", [])
    assert "KAIO111" in " ".join(made["reasons"])


def test_storage_without_direct_is_no_case_for_native():
    observations = o.observations([o.qemu(native="refused")], storage=o.storage(False))
    made = plan(o.runtime(), observations)
    assert made["road"] == "impossible"
    assert "O_DIRECT" in made["reasons"][0]

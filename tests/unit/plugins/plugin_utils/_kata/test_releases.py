# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.kataops.aio.plugins.plugin_utils._kata import releases


@pytest.mark.parametrize(
    "text, parsed",
    [
        ("3.7.0", (3, 7, 0, "~")),
        ("v3.7.0-rc0", (3, 7, 0, "rc0")),
        ("3.29.0-alpha1", (3, 29, 0, "alpha1")),
        ("4.1", (4, 1, 0, "~")),
        ("3.2.0-kata1", (3, 2, 0, "~")),
        (" 3.12.0\n", (3, 12, 0, "~")),
        ("10.2.0+ds", (10, 2, 0, "~")),
        ("CCv0", None),
        ("", None),
        (None, None),
        ("3", None),
    ],
)
def test_parse(text, parsed):
    assert releases.parse_release(text) == parsed


@pytest.mark.parametrize(
    "release, wanted, answer",
    [
        ("3.29.0", "3.29.0", True),
        ("3.29.0-alpha1", "3.29.0", False),
        ("3.30.0-rc0", "3.29.0", True),
        ("3.9.0", "3.29.0", False),
        (None, "3.0.0", None),
        ("main", "3.0.0", None),
    ],
)
def test_at_least(release, wanted, answer):
    assert releases.at_least(release, wanted) is answer


@pytest.mark.parametrize(
    "release, qemu, native, refused",
    [
        ("3.0.0", "6.2.0", False, "fails"),
        ("3.2.0", "7.2.0", False, "fails"),
        ("3.6.0", "7.2.0", False, "fails"),
        ("3.7.0", "8.2.4", False, "fails"),
        ("3.8.0", "8.2.4", True, "fails"),
        ("3.12.0", "9.1.2", True, "falls_back"),
        ("3.16.0", "9.1.2", True, "falls_back"),
        ("3.20.0", "10.0.3", True, "falls_back"),
        ("3.24.0", "10.1.1", True, "falls_back"),
        ("3.28.0", "10.2.1", True, "fails"),
        ("3.32.0", "11.0.1", True, "fails"),
        ("4.1.0", "11.0.1", True, "fails"),
        ("2.5.2", None, None, None),
        ("9.9.9", None, None, None),
        (None, None, None, None),
    ],
)
def test_what_a_release_ships(release, qemu, native, refused):
    assert releases.qemu_version(release) == qemu
    assert releases.shipped_engines(release)["native"] is native
    assert releases.io_uring_refused_by_host(qemu) == refused


@pytest.mark.parametrize(
    "runtime, release, honoured, always, native",
    [
        ("go", "2.5.2", False, "threads", False),
        ("go", "3.0.0", True, None, True),
        ("go", "4.1.0", True, None, True),
        ("go", None, None, None, None),
        ("rs", "3.16.0", False, "threads", False),
        ("rs", "3.19.0", False, "threads", False),
        ("rs", "3.20.0", False, "io_uring", False),
        ("rs", "3.21.0", True, None, False),
        ("rs", "3.28.0", True, None, False),
        ("rs", "3.29.0", True, None, True),
        ("rs", "4.1.0", True, None, True),
        ("rs", None, None, None, None),
    ],
)
def test_engine_support(runtime, release, honoured, always, native):
    support = releases.engine_support(runtime, release)
    assert (support["honoured"], support["always"], support["native"]) == (honoured, always, native)
    assert ("block_device_cache_set" in support["native_keys"]) is (runtime == "go")


@pytest.mark.parametrize(
    "runtime, release, shim, first, last",
    [
        ("go", "3.7.0", "/opt/kata/bin/shim", "/etc/kata-containers/configuration.toml", "/opt/kata/share/defaults/kata-containers/configuration.toml"),
        ("go", "4.1.0", "/usr/bin/shim", "/etc/kata-containers/configuration.toml", "/usr/share/kata-containers/defaults/configuration.toml"),
        ("rs", "3.2.0", None, "/etc/kata-containers/configuration.toml", "/usr/share/defaults/kata-containers/configuration.toml"),
        (
            "rs",
            "3.3.0",
            None,
            "/etc/kata-containers/runtime-rs/configuration.toml",
            "/opt/kata/share/defaults/kata-containers/runtime-rs/configuration.toml",
        ),
        (
            "rs",
            None,
            None,
            "/etc/kata-containers/runtime-rs/configuration.toml",
            "/opt/kata/share/defaults/kata-containers/runtime-rs/configuration.toml",
        ),
    ],
)
def test_default_configurations(runtime, release, shim, first, last):
    paths = releases.default_configurations(runtime, release, shim)
    assert (paths[0], paths[-1]) == (first, last)


def test_drop_ins_and_restrictions():
    assert releases.drop_ins_supported("go", "2.4.3") is False
    assert releases.drop_ins_supported("go", "2.5.0") is True
    assert releases.drop_ins_supported("rs", None) is None
    assert releases.conf_file_restricted("3.32.0") is False
    assert releases.conf_file_restricted("4.0.0") is True
    assert releases.conf_file_restricted(None) is None

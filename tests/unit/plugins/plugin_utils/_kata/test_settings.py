# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which keys an engine needs: the table of the releases' behaviour, as it was measured."""

from __future__ import annotations

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.settings import wanted_keys

TRIPLE = {"block_device_aio": "native", "block_device_cache_set": True, "block_device_cache_direct": True}
PAIR = {"block_device_aio": "native", "block_device_cache_direct": True}
URING = {"block_device_aio": "io_uring"}
THREADS = {"block_device_aio": "threads"}

# runtime, release, engine, keys (or the best engine instead, where it is impossible)
TABLE = [
    ("go", "2.5.2", "native", "threads"),
    ("go", "2.5.2", "io_uring", "threads"),
    ("go", "2.5.2", "threads", {}),
    ("go", "3.0.0", "native", TRIPLE),
    ("go", "3.7.0", "native", TRIPLE),
    ("go", "3.7.0", "io_uring", URING),
    ("go", "3.7.0", "threads", THREADS),
    ("go", "4.1.0", "native", TRIPLE),
    ("go", None, "native", TRIPLE),
    ("rs", "3.16.0", "native", "threads"),
    ("rs", "3.19.0", "io_uring", "threads"),
    ("rs", "3.19.0", "threads", {}),
    ("rs", "3.20.0", "native", "io_uring"),
    ("rs", "3.20.0", "threads", "io_uring"),
    ("rs", "3.20.0", "io_uring", {}),
    ("rs", "3.21.0", "native", "io_uring"),
    ("rs", "3.21.0", "io_uring", URING),
    ("rs", "3.28.0", "native", "io_uring"),
    ("rs", "3.28.0", "threads", THREADS),
    ("rs", "3.29.0-rc0", "native", "io_uring"),
    ("rs", "3.29.0", "native", PAIR),
    ("rs", "4.1.0", "native", PAIR),
    ("rs", "4.1.0", "io_uring", URING),
    ("rs", None, "native", PAIR),
    (None, "3.7.0", "native", TRIPLE),
    (None, None, "threads", THREADS),
]


@pytest.mark.parametrize(("runtime", "release", "engine", "outcome"), TABLE)
def test_keys(runtime, release, engine, outcome):
    if isinstance(outcome, dict):
        keys, notes = wanted_keys(engine, runtime, release)
        assert keys == outcome
        assert bool(notes) == (release is None or runtime is None or not keys)
        assert wanted_keys(engine, runtime, release, "/q")[0] == dict(outcome, path="/q")
    else:
        with pytest.raises(AioError, match="impossible here") as failure:
            wanted_keys(engine, runtime, release)
        assert failure.value.details["best"] == outcome
        assert outcome in failure.value.remedy and "upgrade Kata" in failure.value.remedy


def test_the_driver_is_never_ours():
    assert all("block_device_driver" not in outcome for _runtime, _release, _engine, outcome in TABLE)


def test_no_engine():
    with pytest.raises(AioError, match="posix.*is no engine"):
        wanted_keys("posix", "go", "3.7.0")

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Kata runtime asks QEMU for when it hot-plugs a block device. PRIVATE to kataops.aio.

Sources: Kata's Go shim 3.0.0 to 4.1.0 (``hotplugAddBlockDevice``: cache object only with block_device_cache_set), runtime-rs 3.17 to 4.1.0
(kata-containers #11686 and PR 11769 for the engine, PR 12682 for cache.direct).
"""

from __future__ import annotations

import typing as t

from ansible_collections.kataops.aio.plugins.plugin_utils._releases import parse_release

Data = t.Dict[str, t.Any]

#: What a missing block_device_aio means, in both runtimes and every release since 3.0.0.
DEFAULT_ENGINE = "io_uring"

GO_FIRST_WITH_ENGINE = (3, 0, 0)
RS_FIRST_FIXED_IO_URING = (3, 20, 0)
RS_FIRST_WITH_ENGINE = (3, 21, 0)
RS_FIRST_WITH_DIRECT = (3, 29, 0)


def block_request(runtime: Data) -> Data:
    """The engine and cache.direct of ``blockdev-add``, from a runtime's effective values and release.

    :returns: ``{engine, direct, direct_possible, ignored, reason}``. ``direct``: whether cache.direct=on is sent. ``direct_possible``: whether any
        configuration of this release sends it. ``ignored``: this release does not look at ``block_device_aio``. An unknown release is taken as a
        current one, and ``reason`` says so.
    """
    values, release = runtime["values"], parse_release(runtime["release"])
    asked = values.get("block_device_aio") or DEFAULT_ENGINE
    if runtime["runtime"] == "rs":
        return _rs_request(asked, bool(values.get("block_device_cache_direct")), release)
    return _go_request(asked, bool(values.get("block_device_cache_set")), bool(values.get("block_device_cache_direct")), release)


def _request(engine: str, direct: bool, direct_possible: bool = True, ignored: bool = False, reason: str | None = None) -> Data:
    return {"engine": engine, "direct": direct, "direct_possible": direct_possible, "ignored": ignored, "reason": reason}


def _go_request(asked: str, cache_set: bool, cache_direct: bool, release: tuple[int, ...] | None) -> Data:
    if release is not None and release < GO_FIRST_WITH_ENGINE:
        return _request("threads", cache_set and cache_direct, ignored=True, reason="Kata before 3.0.0 leaves the engine to QEMU, which takes threads.")
    missing = [key for key, on in (("block_device_cache_set", cache_set), ("block_device_cache_direct", cache_direct)) if not on]
    reason = "Not true: %s." % " and ".join(missing) if missing else None
    return _request(asked, cache_set and cache_direct, reason=reason)


def _rs_request(asked: str, cache_direct: bool, release: tuple[int, ...] | None) -> Data:
    if release is None:
        return _request(asked, cache_direct, reason="The release of this runtime-rs is not known; it is judged as 3.29.0 or newer.")
    if release < RS_FIRST_FIXED_IO_URING:
        return _request("threads", False, False, True, "runtime-rs before 3.20 names no engine, so QEMU takes threads.")
    if release < RS_FIRST_WITH_ENGINE:
        return _request("io_uring", False, False, True, "runtime-rs 3.20 always asks for io_uring.")
    if release < RS_FIRST_WITH_DIRECT:
        return _request(asked, False, False, reason="runtime-rs before 3.29 never sends cache.direct on hot-plug.")
    return _request(asked, cache_direct, reason=None if cache_direct else "Not true: block_device_cache_direct.")


def can_use(runtime: Data, engine: str) -> bool:
    """Whether some configuration of this runtime and release makes it use the engine."""
    wanted = dict(runtime, values=dict(runtime["values"], block_device_aio=engine, block_device_cache_set=True, block_device_cache_direct=True))
    request = block_request(wanted)
    return request["engine"] == engine and (engine != "native" or request["direct_possible"])

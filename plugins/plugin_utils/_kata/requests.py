# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Kata runtime asks QEMU for when it hot-plugs a block device. PRIVATE to kataops.aio.

Sources: Kata's Go shim 3.0.0 to 4.1.0 (``hotplugAddBlockDevice``: cache object only with block_device_cache_set), runtime-rs 3.17 to 4.1.0
(kata-containers #11686 and PR 11769 for the engine, PR 12682 for cache.direct).
"""

from __future__ import annotations

import typing as t

from ansible_collections.kataops.aio.plugins.plugin_utils._kata.releases import DEFAULT_AIO, engine_support

Data = t.Dict[str, t.Any]


def block_request(runtime: Data) -> Data:
    """The engine and cache.direct of ``blockdev-add``, from a runtime's effective values and release.

    :returns: ``{engine, direct, direct_possible, ignored, reason}``. ``direct``: whether cache.direct=on is sent. ``direct_possible``: whether any
        configuration of this release sends it. ``ignored``: this release does not look at ``block_device_aio``. An unknown release is taken as a
        current one, and ``reason`` says so.
    """
    values, release = runtime["values"], runtime["release"]
    kind = "rs" if runtime["runtime"] == "rs" else "go"
    support = engine_support(kind, release)
    if support["always"]:
        always = "Kata %s (%s) always uses %s." % (release, kind, support["always"])
        return {"engine": support["always"], "direct": False, "direct_possible": False, "ignored": True, "reason": always}
    possible = support["native"] is not False
    needed = [key for key in support["native_keys"] if key != "block_device_aio"]
    missing = [key for key in needed if values.get(key) is not True]
    reason = None
    if not possible:
        reason = "runtime-rs %s never sends cache.direct on hot-plug." % release
    elif missing:
        reason = "Not true: %s." % " and ".join(missing)
    elif support["native"] is None:
        reason = "The release is not known; this runtime is judged as a current one."
    engine = values.get("block_device_aio") or DEFAULT_AIO
    return {"engine": engine, "direct": possible and not missing, "direct_possible": possible, "ignored": False, "reason": reason}


def can_use(runtime: Data, engine: str) -> bool:
    """Whether some configuration of this runtime and release makes it use the engine."""
    wanted = dict(runtime, values=dict(runtime["values"], block_device_aio=engine, block_device_cache_set=True, block_device_cache_direct=True))
    request = block_request(wanted)
    return request["engine"] == engine and (engine != "native" or request["direct_possible"])

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which keys of ``[hypervisor.qemu]`` an engine needs, by runtime and release. PRIVATE to kataops.aio.

Pure; what each release does is in :mod:`_releases`.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.plugin_utils._kata import releases

AIO = "block_device_aio"
CACHE_SET = "block_device_cache_set"
CACHE_DIRECT = "block_device_cache_direct"

Keys = t.Dict[str, t.Any]


def wanted_keys(engine: str, runtime: str | None, release: str | None, qemu_path: str | None = None) -> tuple[Keys, list[str]]:
    """The keys that give ``engine``, and remarks for the user.

    C(io_uring) and C(threads) need their own key only: QEMU takes them with and without C(cache.direct), so the cache keys stay whatever they are.
    C(native) needs O_DIRECT: the Go runtime sends it only with both cache keys, runtime-rs from 3.29.0 with C(block_device_cache_direct) alone.
    C(block_device_driver) is never here: its values differ between the runtimes.

    :arg engine: ``native``, ``io_uring`` or ``threads``.
    :arg runtime: ``go``, ``rs``, or None where it is not known (the keys then serve both).
    :arg release: Kata's release, or None where it is not known (then taken for one that honours the keys, and said so).
    :arg qemu_path: the QEMU that the configuration shall name, or None to leave ``path`` alone.
    :returns: ``(keys, notes)``; keys is empty (but for ``path``) where the release gives that engine whatever is configured.
    :raises AioError: where this runtime and release cannot give the engine; its details have the ``best`` that they can.
    """
    if engine not in releases.ENGINES:
        raise AioError("%r is no engine" % (engine,), "engine", "one of %s" % ", ".join(releases.ENGINES))
    keys: Keys = {"path": qemu_path} if qemu_path else {}
    name = {"go": "the Go runtime", "rs": "runtime-rs"}.get(runtime or "", "Kata")
    support = releases.engine_support(runtime or "go", release)
    notes = []
    if support["honoured"] is None:
        since = "3.29.0" if runtime == "rs" and engine == "native" else "3.21.0" if runtime == "rs" else "3.0.0"
        notes.append("the release of %s is not known: taken for %s or newer, which honours %s" % (name, since, AIO))
    if runtime is None:
        notes.append("it is not known whether this is the Go runtime or runtime-rs: the keys serve both")
    if support["honoured"] is False:
        if engine != support["always"]:
            since = "3.0.0" if runtime != "rs" else "3.29.0" if engine == "native" else "3.21.0"
            raise _impossible(engine, "%s %s takes no notice of %s and always uses %s" % (name, release, AIO, support["always"]), support["always"], since)
        notes.append("%s %s always uses %s; no key is needed" % (name, release, engine))
        return keys, notes
    if engine != "native":
        return dict(keys, **{AIO: engine}), notes
    if support["native"] is False:
        why = "%s %s does not pass %s on to hot-plugged devices, and QEMU refuses native without it" % (name, release, CACHE_DIRECT)
        raise _impossible(engine, why, "io_uring", "3.29.0")
    own: Keys = {AIO: "native", CACHE_SET: True, CACHE_DIRECT: True}
    return dict(keys, **{key: value for key, value in own.items() if key in support["native_keys"]}), notes


def _impossible(engine: str, why: str, best: str, since: str) -> AioError:
    instead = "io_uring (threads where the kernel refuses it)" if best == "io_uring" else best
    return AioError("engine %s is impossible here: %s" % (engine, why), "engine", remedy="use %s, or upgrade Kata to %s or newer" % (instead, since), best=best)

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a host's raw observations to the facts that are kept: discover, assess, plan. PRIVATE to kataops.aio."""

from __future__ import annotations

import typing as t

from ansible_collections.kataops.aio.plugins.plugin_utils._judge.assess import asked_engines, assess, on_threads_unasked, qemu_of
from ansible_collections.kataops.aio.plugins.plugin_utils._judge.plan import make_plan
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.discover import discover, missing_documents

SCHEMA_VERSION = 1

#: The keys of [hypervisor.qemu] that decide about block AIO, and those that tell a reader what this runtime is. A shipped configuration has about 70.
KEPT_VALUES = (
    "path",
    "machine_type",
    "firmware",
    "seccompsandbox",
    "block_device_driver",
    "block_device_aio",
    "block_device_cache_set",
    "block_device_cache_direct",
    "block_device_cache_noflush",
    "disable_block_device_use",
    "enable_iothreads",
    "indep_iothreads",
    "enable_guest_swap",
    "enable_annotations",
    "rootless",
)

Data = t.Dict[str, t.Any]


def second_look(observations: Data) -> tuple[list[Data], dict[str, list[str]]]:
    """The host's runtimes, and what a second round trip has to fetch first, as further module options; none where the first one was enough."""
    missing = missing_documents(observations["kata"])
    if missing:
        return [], {"containerd_configs": missing}
    runtimes = discover(observations["kata"])
    documents = observations["kata"]["documents"]
    # A path from a text that others than root can write is not asked for: the host would run it.
    untrusted = {name for path, document in documents.items() if document.get("untrusted") for name in (path, *document["names"])}
    paths = {
        r["values"]["path"]
        for r in runtimes
        if r["hypervisor"] == "qemu" and r["values"].get("path") and untrusted.isdisjoint({r["sources"].get("path"), r["config"]["real_path"]})
    }
    unseen = sorted(path for path in paths if qemu_of(observations, path) is None)
    return runtimes, {"binaries": unseen} if unseen else {}


def _kept(runtime: Data) -> Data:
    """A runtime without the values that nothing reads, so that a fleet's facts stay small on the controller."""
    return dict(
        runtime,
        values={key: runtime["values"][key] for key in KEPT_VALUES if key in runtime["values"]},
        sources={key: runtime["sources"][key] for key in KEPT_VALUES if key in runtime["sources"]},
    )


def judged_facts(observations: Data, runtimes: list[Data], policy: Data) -> Data:
    """``ansible_facts.kata_aio``: the observations without any configuration text, the runtimes, the judgement and the plan."""
    assessment = assess(observations, runtimes, policy)
    sandboxes = dict(observations["sandboxes"])
    asked = asked_engines(runtimes, observations)
    sandboxes["silent_fallbacks"] = sum(on_threads_unasked(process, asked) for process in sandboxes["processes"])
    return {
        "schema_version": SCHEMA_VERSION,
        "host": observations["host"],
        "runtimes": [_kept(runtime) for runtime in runtimes],
        "qemus": observations["qemus"],
        "kernel": observations["kernel"],
        "libaio": observations["libaio"],
        "storage": observations["storage"],
        "sandboxes": sandboxes,
        "findings": assessment["findings"],
        "verdict": assessment["verdict"],
        "verdicts": assessment["verdicts"],
        "plan": make_plan(observations, runtimes, assessment, policy),
    }

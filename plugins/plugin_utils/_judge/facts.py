# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a host's raw observations to the facts that are kept: discover, assess, plan. PRIVATE to kataops.aio."""

from __future__ import annotations

import typing as t

from ansible_collections.kataops.aio.plugins.plugin_utils._judge.assess import assess, proof_arguments, qemu_of
from ansible_collections.kataops.aio.plugins.plugin_utils._judge.plan import make_plan
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.discover import KEPT, look

SCHEMA_VERSION = 1

Data = t.Dict[str, t.Any]


def second_look(observations: Data) -> tuple[list[Data], dict[str, list[str]]]:
    """The host's runtimes, and what a second round trip has to fetch first, as further module options; none where the first one was enough."""
    runtimes, missing = look(observations["kata"])
    if missing:
        return [], {"containerd_configs": missing}
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


def _judged(runtime: Data, assessment: Data) -> Data:
    """A runtime with what it asks for and gets (``engine``), and the options that prove it (``proof``); without values that nothing reads, so that a
    fleet's facts stay small on the controller."""
    return dict(
        runtime,
        values={key: value for key, value in runtime["values"].items() if key in KEPT},
        sources={key: value for key, value in runtime["sources"].items() if key in KEPT},
        engine=assessment["engines"][runtime["id"]],
        proof=proof_arguments(runtime) if runtime["hypervisor"] == "qemu" else None,
    )


def judged_facts(observations: Data, runtimes: list[Data], policy: Data) -> Data:
    """``ansible_facts.kata_aio``: the observations without any configuration text, the runtimes, the judgement and the plan."""
    assessment = assess(observations, runtimes, policy)
    return {
        "schema_version": SCHEMA_VERSION,
        "host": observations["host"],
        "runtimes": [_judged(runtime, assessment) for runtime in runtimes],
        "qemus": observations["qemus"],
        "kernel": observations["kernel"],
        "libaio": observations["libaio"],
        "storage": observations["storage"],
        "sandboxes": dict(observations["sandboxes"], silent_fallbacks=assessment["silent_fallbacks"]),
        "findings": assessment["findings"],
        "verdict": assessment["verdict"],
        "verdicts": assessment["verdicts"],
        "plan": make_plan(observations, runtimes, assessment, policy),
    }

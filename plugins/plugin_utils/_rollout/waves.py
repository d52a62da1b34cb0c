# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the plans of a fleet's hosts to waves and a summary. PRIVATE to kataops.aio."""

from __future__ import annotations

import collections
import typing as t

Data = t.Dict[str, t.Any]

#: Ansible's name for the controller.
CONTROLLER = "localhost"

#: So many hosts without a way out are named in the summary.
NAMED = 10

_ROAD_WORDS = {
    "configuration": "by configuration only",
    "reuse": "with another QEMU of the host",
    "replace": "with a QEMU from elsewhere",
    "rebuild": "with a rebuilt QEMU",
    "fallback": "by falling back to another engine",
}


def wave_sizes(waves: t.Sequence[str], total: int) -> list[int]:
    """How many hosts each wave gets, by the rules of Ansible's serial: percentages of all hosts, at least 1; the last size repeats."""
    sizes: list[int] = []
    left, index = total, 0
    while left > 0:
        size = str(waves[min(index, len(waves) - 1)])
        number = max(int(total * int(size[:-1]) / 100), 1) if size.endswith("%") else int(size)
        number = min(number if number > 0 else left, left)
        sizes.append(number)
        left -= number
        index += 1
    return sizes


def rollout(
    plans: t.Mapping[str, Data], waves: t.Sequence[str], builders: t.Mapping[str, str | None], lost: t.Sequence[str] = (), controller: bool = True
) -> Data:
    """What the fleet is going to do. See the module's documentation for the shape.

    :arg plans: of the hosts that were observed, in the order of the play. :arg lost: the hosts that could not be observed.
    :arg builders: the builder that the user named for a host, if any. :arg controller: it may stand in for a wave (it is no host of the play, and no
    limit leaves it out).
    """
    repair = [host for host, plan in plans.items() if plan["needed"] and plan["strategy"] != "impossible"]
    impossible = [{"host": host, "reasons": plan["reasons"]} for host, plan in plans.items() if plan["strategy"] == "impossible"]
    sizes = wave_sizes(waves, len(repair))
    builds = _builds({host: plans[host] for host in repair}, builders)
    of_waves = [number for number, size in enumerate(sizes, 1) for _host in range(size)]
    # ansible-core ends a run, with neither gate nor report, when every host of a batch has become unreachable (PlaybookExecutor.run, seen from 2.16 to
    # 2.21). So each wave gets, last, somebody that nothing is done to: the controller, then the hosts that are left alone anyway, as far as they go.
    spare = [host for host in plans if host not in set(repair)]
    placeholder_hosts = (([CONTROLLER] if controller else []) + spare)[: len(sizes)]
    return {
        "fleet": [*plans, *lost],
        "lost": list(lost),
        "repair": repair,
        "impossible": impossible,
        "waves": sizes,
        "wave_of": dict(zip(repair, of_waves)),
        "placeholder_hosts": placeholder_hosts,
        "batches": _batches(repair, sizes, placeholder_hosts),
        "builds": builds,
        "summary": _summary(plans, repair, impossible, sizes, builds) + _summary_of_lost(lost),
    }


def _batches(repair: list[str], sizes: list[int], placeholder_hosts: list[str]) -> list[list[str]]:
    batches, start = [], 0
    for number, size in enumerate(sizes):
        batches.append(repair[start : start + size] + placeholder_hosts[number : number + 1])
        start += size
    return batches


def _summary_of_lost(lost: t.Sequence[str]) -> list[str]:
    if not lost:
        return []
    more = " and %d more" % (len(lost) - NAMED) if len(lost) > NAMED else ""
    return ["  %d could not be looked at, and get nothing: %s%s" % (len(lost), ", ".join(lost[:NAMED]), more)]


def _summary_of_prices(plans: t.Mapping[str, Data]) -> list[str]:
    """What the repairs cost, before they are made: one line for each price."""
    hosts: dict[str, list[str]] = {}
    for host, plan in plans.items():
        for price in plan.get("prices") or ():
            hosts.setdefault(price, []).append(host)
    return [
        "  the price on %s%s: %s" % (", ".join(names[:NAMED]), " and %d more" % (len(names) - NAMED) if len(names) > NAMED else "", price)
        for price, names in hosts.items()
    ]


def _builds(plans: t.Mapping[str, Data], builders: t.Mapping[str, str | None]) -> list[Data]:
    """Every QEMU that has to be made for the fleet, or may have to be: those that a host's first way needs are planned, the others are made late.

    One for each architecture; its builder is the one that the user named, else the first host that needs it.
    """
    builds: dict[str, Data] = {}
    for planned in (True, False):
        for host, plan in plans.items():
            for way in [plan] if planned else plan["alternatives"]:
                qemu = way["qemu"] or {}
                if qemu.get("source") == "build" and qemu["build"] not in builds:
                    made = {key: qemu.get(key) for key in ("build", "kind", "artifact", "sha256", "release")}
                    builds[qemu["build"]] = dict(made, builder=builders.get(host) or host, planned=planned)
    return list(builds.values())


def _summary_of_build(build: Data, named: bool) -> list[str]:
    """Where a QEMU comes from. Only the builder can tell what its build would be called, so whether it is in the cache is known when it is asked.

    :arg named: whether the builder is another machine than the hosts to repair.
    """
    if build["kind"] != "rebuild":
        return ["  QEMU is taken out of Kata %s once, on %s" % (build["release"], build["builder"])]
    lines = ["  one QEMU for all: from the cache on the controller (kata_aio_artifacts_dir); where it is not there yet, %s builds it" % build["builder"]]
    if not named:
        lines.append(
            "    %s is one of the hosts to repair: for that build, minutes of compilation, the compiler and libraries (about 90 packages) are installed there "
            "and stay. Name another machine with kata_aio_builder" % build["builder"]
        )
    return lines


def _summary(plans: t.Mapping[str, Data], repair: list[str], impossible: list[Data], sizes: list[int], builds: list[Data]) -> list[str]:
    healthy = len(plans) - len(repair) - len(impossible)
    lines = ["Plan: %d host(s) observed, %d need nothing, %d to repair, %d without a way." % (len(plans), healthy, len(repair), len(impossible))]
    for strategy, count in collections.Counter(plans[host]["strategy"] for host in repair).most_common():
        lines.append("  %d %s" % (count, _ROAD_WORDS[strategy]))
    for build in builds:
        if build["planned"]:
            lines += _summary_of_build(build, named=build["builder"] not in repair)
    lines += _summary_of_prices({host: plans[host] for host in repair})
    partly = [host for host in repair if plans[host].get("remaining")]
    for host in partly[:NAMED]:
        for item in plans[host]["remaining"]:
            who = "%s (%s)" % (item["runtime"], ", ".join(item["handlers"]) or "no handler")
            lines.append("  %s: %s stays as it is: %s" % (host, who, item["reason"]))
    if len(partly) > NAMED:
        lines.append("  and %d more can be repaired only in part; the report has them all" % (len(partly) - NAMED))
    if repair:
        lines.append("  waves of %s" % ", ".join(str(size) for size in sizes))
    for closed in impossible[:NAMED]:
        lines.append("  %s: %s" % (closed["host"], "; ".join(closed["reasons"])))
    if len(impossible) > NAMED:
        lines.append("  and %d more without a way; the report has them all" % (len(impossible) - NAMED))
    return lines

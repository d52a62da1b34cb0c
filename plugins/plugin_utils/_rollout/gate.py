# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a rollout goes on after a wave. PRIVATE to kataops.aio."""

from __future__ import annotations

import typing as t

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError

Data = t.Dict[str, t.Any]

#: Outcomes after which a rollout may go on: that a host may fall back (degraded) was the user's own choice, and what only a person can repair on a host
#: (partly_repaired) was broken before.
GOOD = ("repaired", "partly_repaired", "degraded", "converged", "would_change", "not_applicable")


def allowed_failures(budget: str, total: int) -> int:
    """How many hosts of ``total`` may fail: a number, or a percentage rounded down."""
    text = str(budget).strip()
    number = text[:-1] if text.endswith("%") else text
    if not number.isdigit():
        raise AioError("%r is no failure budget" % budget, "kata_aio_failure_budget", "a whole number, or a percentage such as 10%")
    return total * int(number) // 100 if text.endswith("%") else int(number)


def losses(hosts: t.Sequence[str], active: t.Collection[str], outcomes: t.Mapping[str, Data]) -> list[Data]:
    """Every host that counts against the budget: ``[{host, outcome, phase, message, undone}]``.

    :arg hosts: all hosts of the rollout. :arg active: those that Ansible still has. :arg outcomes: the records of those that came to an end.
    """
    lost = []
    for host in hosts:
        record = outcomes.get(host)
        if record is not None and record.get("outcome") in GOOD:
            continue
        if record is None or record.get("outcome") is None:
            if host in active:
                continue  # not reached yet
            phase = (record or {}).get("phase_reached")
            lost.append({"host": host, "outcome": "unreachable", "phase": phase, "message": "Ansible lost the host", "undone": None})
            continue
        error = record.get("error") or {}
        lost.append({"host": host, "outcome": record["outcome"], "phase": error.get("phase"), "message": error.get("message"), "undone": error.get("undone")})
    return lost


def verdict(hosts: t.Sequence[str], active: t.Collection[str], outcomes: t.Mapping[str, Data], budget: str) -> Data:
    """``{passed, lost, allowed, untouched, message}``; the message says what to type next."""
    allowed = allowed_failures(budget, len(hosts))
    lost = losses(hosts, active, outcomes)
    gone = {entry["host"] for entry in lost}
    done = {host for host, record in outcomes.items() if record.get("outcome")}
    untouched = [host for host in hosts if host not in gone and host not in done]
    made = {"passed": len(lost) <= allowed, "lost": lost, "allowed": allowed, "untouched": untouched}
    return dict(made, message=_message(made, len(hosts), budget))


def _message(made: Data, total: int, budget: str) -> str:
    lost = made["lost"]
    head = "%d of %d host(s) failed, were taken back or got lost; the failure budget is %s (%d)." % (len(lost), total, budget, made["allowed"])
    if made["passed"]:
        return head
    lines = ["The rollout stops here: " + head]
    for entry in lost:
        phase = " in phase %s" % entry["phase"] if entry["phase"] else ""
        undone = " Undone: %s" % entry["undone"] if entry["undone"] else ""
        lines.append("  %s: %s%s: %s%s" % (entry["host"], entry["outcome"], phase, entry["message"], undone))
    lines.append("%d host(s) were not touched." % len(made["untouched"]))
    lines.append("Repair the cause, then run the same command again: hosts that are done cost one look. To try only the failed ones first:")
    lines.append("  --limit '%s'" % ",".join(entry["host"] for entry in lost))
    return "\n".join(lines)

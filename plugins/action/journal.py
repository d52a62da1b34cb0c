# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of journal: tells our part of a file of Kata's from what others wrote since, which takes reading TOML."""

from __future__ import annotations

import base64
import hashlib
import typing as t

from ansible.plugins.action import ActionBase
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.modules.journal import ARGUMENT_SPEC
from ansible_collections.kataops.aio.plugins.plugin_utils._ansible.plain import plain
from ansible_collections.kataops.aio.plugins.plugin_utils._change.decide import without_us

HOST_HALF = "kataops.aio.journal_host"

Data = t.Dict[str, t.Any]


class ActionModule(ActionBase):
    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: Data | None = None) -> Data:
        result = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)
        args = plain(args)
        try:
            if args["transaction"] is not None and (args["runtimes"] or args["tools"] or args["force"]):
                raise AioError(
                    "a transaction is only reverted as a whole", "transaction: %d" % args["transaction"], "neither runtimes, tools nor force beside it"
                )
        except AioError as exc:
            result.update(exc.as_failure(), failed=True)
            return result
        done = self._host(args, task_vars)
        if not done.get("failed") and not done.get("unreachable"):
            edited = edited_files(done["left"])
            if edited:
                done = joined(done, self._host(args, task_vars, edited=edited))
        result.update(shaped(done, self._task.diff) if "objects" in done else done)
        return result

    def _host(self, args: Data, task_vars: Data | None, **request: t.Any) -> Data:
        done = self._execute_module(module_name=HOST_HALF, module_args={"request": {**args, **request}}, task_vars=task_vars)
        done.pop("invocation", None)
        return done


def edited_files(left: list[Data]) -> Data:
    """Of files of Kata's that other programs changed: ``{name: {sha256, content_b64}}``, the content without our part; those where that cannot be told
    are left out."""
    found: Data = {}
    for item in left:
        if item.get("present_b64") is None:
            continue
        content = base64.b64decode(item["present_b64"])
        try:
            rest = without_us(item["name"], content, item["info"])
        except AioError:
            continue
        found[item["name"]] = {
            "sha256": hashlib.sha256(content).hexdigest(),
            "content_b64": None if rest is None else base64.b64encode(rest).decode(),
        }
    return found


def joined(first: Data, second: Data) -> Data:
    """The result of two rounds on a host, of which the second did what the first had left."""
    if "objects" not in second:
        return second
    both = {key: first[key] + second[key] for key in ("objects", "cautions", "recovered", "notes")}
    return {**second, **both, "seq": second["seq"] or first["seq"], "changed": first["changed"] or second["changed"]}


def shaped(done: Data, with_diff: bool) -> Data:
    """The task's result."""
    result: Data = {
        "changed": done["changed"] or any(entry["outcome"] != "unsettled" for entry in done["recovered"]),
        "objects": [{key: shown[key] for key in ("kind", "name", "case")} for shown in done["objects"]],
        "left": [{key: left[key] for key in ("kind", "name", "reason", "remedy", "difference")} for left in done["left"]],
        "notes": done["notes"],
        "transaction": done["seq"],
        "recovered": done["recovered"],
    }
    if done["cautions"]:
        result["warnings"] = done["cautions"]
    if with_diff:
        result["diff"] = [
            {"before_header": shown["name"], "after_header": shown["name"], "before": shown["before"], "after": shown["after"]} for shown in done["objects"]
        ]
    if done["left"]:
        first = done["left"][0]
        others = " The same holds for %s." % ", ".join(left["name"] for left in done["left"][1:]) if len(done["left"]) > 1 else ""
        failure = AioError(first["reason"], first["name"], remedy=first["remedy"], difference=first["difference"])
        result.update(failure.as_failure(), failed=True)
        result["msg"] += others
    return result

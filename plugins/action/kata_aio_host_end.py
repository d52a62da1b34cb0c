# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ends a host as a report has it. Runs on the controller alone."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        arguments = {"msg": {"type": "str", "required": True}, "unreachable": {"type": "bool", "default": False}}
        options = self.validate_argument_spec(argument_spec=arguments)[1]
        return {"changed": False, "unreachable" if options["unreachable"] else "failed": True, "msg": options["msg"]}

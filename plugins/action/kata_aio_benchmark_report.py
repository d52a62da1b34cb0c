# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows and keeps what was measured on the hosts of a play. Runs on the controller alone."""

from __future__ import annotations

import datetime
import typing as t

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.plugin_utils._ansible.plain import plain
from ansible_collections.kataops.aio.plugins.plugin_utils._report.benchmark import FILE_NAME, benchmark_report, table_lines
from ansible_collections.kataops.aio.plugins.plugin_utils._report.files import replace_text, writing
from ansible_collections.kataops.aio.plugins.plugin_utils._report.machine import render_json

ARGUMENTS = {
    "dest": {"type": "str"},
    "measured": {"type": "str", "default": "kata_aio_measured"},
    "max_rows": {"type": "int", "default": 40},
}


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        variables = task_vars or {}
        options = self.validate_argument_spec(argument_spec=ARGUMENTS)[1]
        hosts = [plain(host) for host in variables["ansible_play_hosts_all"]]
        lost = set(hosts) - {plain(host) for host in variables["ansible_play_hosts"]}
        hostvars = variables["hostvars"]
        registered = {}
        for host in hosts:
            known = hostvars.raw_get(host)
            if ((known.get("ansible_facts") or {}).get("kata_aio") or {}).get("verdict") != "not_applicable":
                registered[host] = plain(known.get(options["measured"]))
        report = benchmark_report(registered, lost, datetime.datetime.now(datetime.timezone.utc))
        lines = table_lines(report, options["max_rows"])
        path = None
        try:
            if options["dest"]:
                with writing(plain(options["dest"])) as folder:
                    path = str(folder / FILE_NAME)
                    replace_text(folder / FILE_NAME, render_json(report))
        except AioError as exc:
            return dict(exc.as_failure(), failed=True, changed=False)
        display = Display()
        for line in ["", *lines, *(["", "Report: %s" % path] if path else [])]:
            display.display(line)
        failing = [entry["host"] for entry in report["hosts"] if entry["reason"]]
        return {"changed": False, "path": path, "report": report, "failing": failing, "table": "\n".join(lines)}

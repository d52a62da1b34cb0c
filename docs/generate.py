# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the reference pages that are made from data: docs/rules.md and docs/variables.md.

Run by ``make docs``; tests/contract/test_reference.py fails where a page is not what this script writes.
"""

from __future__ import annotations

import pathlib

from ansible_collections.kataops.aio.plugins.plugin_utils._judge.rules import by_id
from ansible_collections.kataops.aio.plugins.plugin_utils._rollout.inputs import INPUTS

DOCS = pathlib.Path(__file__).resolve().parent
GENERATED = "<!-- Made by docs/generate.py from the collection's own data; do not edit. -->"

SEVERITIES = {
    "error": "a sandbox, or a block device in it, fails: the verdict is **broken**",
    "warning": "it works, but not as asked, or not for long: the verdict is **degraded**",
    "info": "worth knowing; it never changes a verdict",
}


def rules_page() -> str:
    """The catalogue of findings."""
    lines = ["# The rules", "", GENERATED, "", "Every finding of an audit is one of these. Severities:", ""]
    lines += ["* %s: %s" % item for item in SEVERITIES.items()]
    lines += ["", "| id | severity | finding |", "|---|---|---|"]
    lines += ["| [%s](#%s) | %s | %s |" % (r.id, r.id.lower(), r.severity, r.title) for r in by_id()]
    for rule in by_id():
        lines += ["", "## %s" % rule.id, "", "**%s** (%s)" % (rule.title, rule.severity), "", rule.why, "", "*Remedy:* %s" % rule.remedy]
    return "\n".join(lines) + "\n"


def variables_page() -> str:
    """The public variables of the playbooks."""
    lines = [
        "# The variables",
        "",
        GENERATED,
        "",
        "The playbooks read these, from the inventory or with `-e`. A name with our prefix that is not here is refused before any host is touched.",
        "",
        "| variable | type | default | meaning |",
        "|---|---|---|---|",
    ]
    for name, wanted in INPUTS.items():
        default = "" if wanted.default is None else "`%s`" % wanted.default
        choices = " One of %s." % ", ".join("`%s`" % choice for choice in wanted.choices) if wanted.choices else ""
        lines.append("| `%s` | %s | %s | %s%s |" % (name, wanted.type, default, wanted.meaning, choices))
    return "\n".join(lines) + "\n"


PAGES = {"rules.md": rules_page, "variables.md": variables_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")

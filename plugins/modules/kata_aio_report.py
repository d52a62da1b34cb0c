#!/usr/bin/python
# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_aio_report
short_description: Reports on a fleet of Kata Containers hosts
version_added: 0.1.0
description:
  - Takes what the hosts' facts (of M(kataops.aio.kata_aio_facts)) and outcome records tell, and makes one report of it - a table on the terminal,
    files in several formats, totals, an answer to a query, and a failure by policy.
  - Runs wholly on the controller; use it with C(run_once=true). No host is contacted.
  - Each file is put in place by one rename, so that a reader never sees a part of it. Beside the files, C(<name>.limit) has the failing hosts, one a
    line, for C(--limit @file).
  - The keys of the report are described in C(docs/report.md), and as a JSON Schema in C(docs/report.schema.json).
author:
  - The kataops founders (@kataops)
extends_documentation_fragment:
  - kataops.aio.attributes
  - kataops.aio.attributes.info_module
attributes:
  check_mode:
    details:
      - The files are written in check mode too; they are the account of what it would do. C(changed) is always V(false).
  idempotent:
    details:
      - The files carry the time at which they were made.
options:
  dest:
    description:
      - Folder on the controller that gets the files; it is made where it does not exist. A relative path is relative to the folder that Ansible was
        started in.
      - Without it no file is written.
    type: str
  formats:
    description: The files to write.
    type: list
    elements: str
    choices: [json, html, markdown, csv, junit, prometheus]
    default: [json, html]
  name:
    description: The files' name without the suffix (C(.json), C(.html), C(.md), C(.csv), C(.xml), C(.prom)).
    type: str
    default: kata-aio-report
  hosts:
    description: The hosts to report on. By default all hosts of the play, over all its waves.
    type: list
    elements: str
  lost:
    description:
      - Hosts that Ansible lost. Where a host's record does not tell how it ended badly, its outcome is V(unreachable).
      - By default the hosts of the play that are no longer in it.
    type: list
    elements: str
  facts:
    description: The key under C(ansible_facts) that has a host's latest facts.
    type: str
    default: kata_aio
  before:
    description: The variable that has a host's facts from before a change. Where it is not set the latest facts are those from before.
    type: str
    default: kata_aio_before
  outcome:
    description: The variable that has a host's outcome record; see C(docs/report.md).
    type: str
    default: kata_aio_outcome
  run:
    description: What the report says of the run itself. Check mode and C(--limit) are added.
    type: dict
    default: {}
    suboptions:
      command:
        description:
          - What was run.
          - With V(remediate) a host without an outcome record gets its outcome from its plan - V(converged) where nothing is needed, V(untouched) or (in
            check mode) V(would_change) where something is.
        type: str
      waves:
        description: The sizes of the waves.
        type: list
        elements: str
      budget:
        description: The failure budget.
        type: str
      started_at:
        description: When the run started, ISO 8601.
        type: str
      seconds:
        description: How long the run took, in seconds; by default the time since O(run.started_at).
        type: float
  query:
    description:
      - A JMESPath expression over the report, for a view of one's own. The answer is shown on the terminal (with O(show)), returned as RV(query_result),
        and written as C(<name>.query.json) (with O(dest)).
      - Needs the Python library C(jmespath) on the controller.
    type: str
  fail_on:
    description:
      - Which hosts make the task fail, after the files were written.
      - V(broken) - a host whose last verdict is C(broken), or that failed, was rolled back or was lost.
      - V(degraded) - those, and hosts whose verdict is C(degraded) or C(unknown).
      - V(never) - none.
    type: str
    choices: [broken, degraded, never]
    default: never
  show:
    description: Whether the table is shown on the terminal.
    type: bool
    default: true
  max_rows:
    description: How many hosts the table has, worst first.
    type: int
    default: 40
  width:
    description: Columns of the table, at least 80. By default those of the terminal.
    type: int
seealso:
  - module: kataops.aio.kata_aio_facts
"""

EXAMPLES = r"""
- name: Report on the fleet, and fail where a host is broken
  kataops.aio.kata_aio_report:
    dest: ./kata-aio-report
    formats: [json, html, junit]
    fail_on: broken
    run:
      command: audit
  run_once: true

- name: Which hosts still run a QEMU older than 8?
  kataops.aio.kata_aio_report:
    query: "hosts[?starts_with(summary.qemu_version || '', '7.')].host"
    show: false
  run_once: true
  register: old

- name: Hand the totals and the failing hosts to the next node of a workflow
  ansible.builtin.set_stats:
    data:
      kata_aio_report: "{{ old.artifact }}"
    per_host: false
  run_once: true
"""

RETURN = r"""
paths:
  description: The files that were written, by format; C(limit) is the list of failing hosts, where there are any;
    C(query) is the answer to O(query). Empty without O(dest).
  returned: always
  type: dict
  sample: {html: /srv/reports/kata-aio-report.html, json: /srv/reports/kata-aio-report.json}
totals:
  description: >-
    The report's C(totals) - C(hosts), C(runtimes), C(verdicts) and C(verdicts_before) (hosts by verdict), C(compared), C(outcomes) (hosts by outcome),
    C(waves), C(sandboxes), C(bytes_sent) (bytes), C(host_seconds) (seconds, summed over the hosts).
  returned: always
  type: dict
failing:
  description: The hosts that count as failing under O(fail_on).
  returned: always
  type: list
  elements: str
ends:
  description: >-
    How each host ends that fails, by host - C(msg) (why) and C(unreachable) (whether Ansible could not reach it). The hosts of RV(failing), and those that
    could not be looked at, which no policy excuses. M(kataops.aio.kata_aio_host_end) takes it.
  returned: always
  type: dict
  sample: {h5: {msg: KAIO101 QEMU has no libaio, unreachable: false}}
limit:
  description: The value for C(--limit) that selects the failing hosts; V(none) where none fails.
  returned: always
  type: str
  sample: h5,h6
table:
  description: The table of the terminal, as text.
  returned: always
  type: str
query_result:
  description: The answer to O(query); V(none) without one.
  returned: always
  type: raw
artifact:
  description: A small part of the report for C(ansible.builtin.set_stats).
  returned: always
  type: dict
  contains:
    schema_version:
      description: Version of the report's schema.
      returned: always
      type: int
    generated_at:
      description: When the report was made, UTC.
      returned: always
      type: str
    command:
      description: As O(run.command).
      returned: always
      type: str
    hosts:
      description: How many hosts the report has.
      returned: always
      type: int
    verdicts:
      description: Hosts by verdict.
      returned: always
      type: dict
    outcomes:
      description: Hosts by outcome.
      returned: always
      type: dict
    failing:
      description: As RV(failing).
      returned: always
      type: list
      elements: str
    limit:
      description: As RV(limit).
      returned: always
      type: str
    paths:
      description: As RV(paths).
      returned: always
      type: dict
    query_result:
      description: As RV(query_result).
      returned: always
      type: raw
"""

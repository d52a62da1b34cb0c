#!/usr/bin/python
# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_aio_benchmark_report
short_description: Reports what the AIO engines of a fleet's hosts cost
version_added: 0.2.0
description:
  - Takes what M(kataops.aio.qemu_bench) measured on the hosts of the play, shows it as a table, and writes it as one JSON file.
  - Hosts without Kata (by the facts of M(kataops.aio.kata_aio_facts), where there are any) are left out.
  - Runs wholly on the controller; use it with C(run_once=true). No host is contacted.
author:
  - The kataops founders (@kataops)
extends_documentation_fragment:
  - kataops.aio.attributes
  - kataops.aio.attributes.info_module
attributes:
  idempotent:
    details:
      - The file carries the time at which it was made.
options:
  dest:
    description:
      - Folder on the controller that gets C(kata-aio-benchmark.json); it is made where it does not exist. A relative path is relative to the folder that
        Ansible was started in.
      - Without it no file is written.
    type: str
  measured:
    description: The variable that has a host's results, as registered from M(kataops.aio.qemu_bench), with or without a loop.
    type: str
    default: kata_aio_measured
  max_rows:
    description: How many hosts the table has.
    type: int
    default: 40
seealso:
  - module: kataops.aio.qemu_bench
"""

EXAMPLES = r"""
- name: Measure
  kataops.aio.qemu_bench:
    binary: /opt/kata/bin/qemu-system-x86_64
    fail: false
  register: kata_aio_measured

- name: Show it, and keep it
  kataops.aio.kata_aio_benchmark_report:
    dest: ./kata-aio-report
  run_once: true
"""

RETURN = r"""
path:
  description: The file that was written; V(null) without O(dest).
  returned: always
  type: str
report:
  description: >-
    What was measured - C(schema_version), C(generated_at) (UTC), and C(hosts), a list of C(host), C(reason) (why the host has no result, else V(null)) and
    C(benchmarks) (the results of M(kataops.aio.qemu_bench)).
  returned: always
  type: dict
failing:
  description: The hosts on which nothing could be measured.
  returned: always
  type: list
  elements: str
table:
  description: The table of the terminal, as text.
  returned: always
  type: str
"""

#!/usr/bin/python
# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_aio_host_end
short_description: Marks a host as failed or unreachable, as a report has it
version_added: 0.2.0
description:
  - Ends a host after the report was written, so that Ansible's recap and AWX show the hosts that failed as failed, and no other.
  - Runs wholly on the controller. No host is contacted.
author:
  - The kataops founders (@kataops)
extends_documentation_fragment:
  - kataops.aio.attributes
  - kataops.aio.attributes.info_module
options:
  msg:
    description: Why.
    type: str
    required: true
  unreachable:
    description: Whether the host counts as unreachable rather than as failed.
    type: bool
    default: false
seealso:
  - module: kataops.aio.kata_aio_report
"""

EXAMPLES = r"""
- name: Mark each host that fails with its own reason
  kataops.aio.kata_aio_host_end:
    msg: "{{ report.ends[inventory_hostname].msg }}"
    unreachable: "{{ report.ends[inventory_hostname].unreachable }}"
  when: inventory_hostname in report.ends
"""

RETURN = r""" # """

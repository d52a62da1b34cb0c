#!/usr/bin/python
# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_aio_gate
short_description: Stops a rollout when its failure budget is spent
version_added: 0.1.0
description:
  - Counts the hosts that failed, were rolled back, were unreachable or got lost, over all waves so far, and fails when there are more than
    the budget allows. Use it as the last task of a wave, with C(run_once=true) and C(any_errors_fatal=true) on the task.
  - A host's outcome is its variable C(kata_aio_outcome) (a dictionary with C(outcome), C(phase_reached) and C(error)). A host without one that Ansible
    no longer has in the play counts as lost.
  - The failure message names the hosts, the phase, the reason and what was undone, and gives a ready C(--limit).
  - Runs wholly on the controller.
author:
  - The kataops founders (@kataops)
extends_documentation_fragment:
  - kataops.aio.attributes
  - kataops.aio.attributes.info_module
options:
  budget:
    description: How many hosts may be lost, as a number, or as a percentage of O(hosts) (rounded down).
    type: str
    default: "0"
  hosts:
    description: The hosts of the rollout. By default those of the play.
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Go on only while at most 2 hosts failed
  kataops.aio.kata_aio_gate:
    budget: "2"
  run_once: true
  any_errors_fatal: true
"""

RETURN = r"""
passed:
  description: Whether the rollout may go on.
  returned: always
  type: bool
lost:
  description: The hosts that count against the budget, each with C(host), C(outcome), C(phase), C(message), C(undone).
  returned: always
  type: list
  elements: dict
allowed:
  description: How many hosts the budget allows.
  returned: always
  type: int
untouched:
  description: The hosts that no wave has reached yet.
  returned: always
  type: list
  elements: str
"""

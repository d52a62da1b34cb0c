#!/usr/bin/python
# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_aio_inputs
short_description: Checks the collection's variables before any host is touched
version_added: 0.1.0
description:
  - Looks at the C(kata_aio_*) variables of every host of the play (types, choices, contradictions, names that do not exist) and fails with all
    mistakes at once, each with the hosts that it concerns.
  - In the playbook C(remediate) also looks whether the artifact and the hooks that they name are there, where the path is absolute.
  - Runs wholly on the controller; use it with C(run_once=true). No host is contacted.
author:
  - The kataops founders (@kataops)
extends_documentation_fragment:
  - kataops.aio.attributes
  - kataops.aio.attributes.info_module
options: {}
"""

EXAMPLES = r"""
- name: Check the variables of the whole fleet
  kataops.aio.kata_aio_inputs:
  run_once: true
  any_errors_fatal: true
"""

RETURN = r"""
problems:
  description: The mistakes, one sentence each.
  returned: always
  type: list
  elements: str
started_at:
  description: When the check was made, as the first thing that a playbook does (ISO 8601, UTC).
  returned: always
  type: str
  sample: "2026-01-31T09:00:00+00:00"
"""

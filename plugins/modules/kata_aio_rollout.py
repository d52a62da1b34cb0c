#!/usr/bin/python
# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_aio_rollout
short_description: The rollout of a fleet, from the plans of its hosts
version_added: 0.1.0
description:
  - Reads the plan that M(kataops.aio.kata_aio_facts) made for each host of the play, shows in a few lines what is going to be done (how many hosts, by
    which strategy, in which waves), and returns the hosts of each kind.
  - A QEMU that has to be made is made once for each architecture.
  - Runs wholly on the controller; use it with C(run_once=true). No host is contacted.
author:
  - The kataops founders (@kataops)
extends_documentation_fragment:
  - kataops.aio.attributes
  - kataops.aio.attributes.info_module
options:
  waves:
    description: Sizes of the waves, as Ansible's C(serial) takes them.
    type: list
    elements: str
    default: ["1", "10%", "50%", "100%"]
  builder:
    description:
      - The host that makes QEMUs, where no host of the fleet has a variable C(kata_aio_builder) of its own. Without either the first host that needs one.
    type: str
"""

EXAMPLES = r"""
- name: Show the plan of the fleet
  kataops.aio.kata_aio_rollout:
    waves: ["1", "25%", "100%"]
  run_once: true
  register: rollout
"""

RETURN = r"""
fleet:
  description: All hosts of the play - those that were observed, and those that were not.
  returned: always
  type: list
  elements: str
lost:
  description: The hosts that could not be observed (unreachable, or the observation failed). Nothing is done to them.
  returned: always
  type: list
  elements: str
repair:
  description: The hosts that need something which can be done, in the order of the play.
  returned: always
  type: list
  elements: str
impossible:
  description: The hosts that need something which cannot be done, each with the C(reasons).
  returned: always
  type: list
  elements: dict
waves:
  description: How many hosts each wave has.
  returned: always
  type: list
  elements: int
wave_of:
  description: The number of its wave, from 1 on, for each host of RV(repair).
  returned: always
  type: dict
placeholder_hosts:
  description:
    - Who stands in for the hosts of a wave when all of them become unreachable. Without anybody left in a wave ansible-core ends the run, with neither gate
      nor report. Nothing is done to a placeholder host.
    - The controller (C(localhost)) in the first wave, unless it is a host of the play, or C(--limit) leaves it out; in the next ones hosts that need nothing or
      cannot be repaired, as many as there are.
  returned: always
  type: list
  elements: str
batches:
  description: The hosts of each wave, with its placeholder host last.
  returned: always
  type: list
  elements: list
builds:
  description: The QEMUs that have to be made for the fleet, or may have to be.
  returned: always
  type: list
  elements: dict
  contains:
    build:
      description: Its name in the hosts' plans.
      type: str
    kind:
      description: V(rebuild), or V(kata_static) for a QEMU that is taken out of a Kata release.
      type: str
    artifact:
      description: The release (path on the controller, or URL); V(none) for a rebuild.
      type: str
    sha256:
      description: The release's SHA-256, where it is given.
      type: str
    release:
      description: Kata's release.
      type: str
    builder:
      description: The host that makes it.
      type: str
    planned:
      description: Whether a host's first strategy needs it. Others are made only when a host comes to the strategy that needs them.
      type: bool
summary:
  description: The plan in a few lines, as it is shown.
  returned: always
  type: list
  elements: str
"""

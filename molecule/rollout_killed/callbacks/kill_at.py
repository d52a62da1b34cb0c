# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kills the controller and all its workers (SIGKILL, the whole process group) a moment after the n-th task has started."""

from __future__ import annotations

import os
import signal
import threading

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: kill_at
type: aggregate
short_description: Kills Ansible
description: Kills Ansible E(KILL_AFTER) seconds after the start of the task number E(KILL_AT).
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "kill_at"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.left = int(os.environ.get("KILL_AT", "0"))

    def v2_playbook_on_task_start(self, task, is_conditional):
        self.left -= 1
        if self.left == 0:
            print("KILLED AT: %s" % task.get_name(), flush=True)
            timer = threading.Timer(float(os.environ["KILL_AFTER"]), os.killpg, (os.getpgid(0), signal.SIGKILL))
            timer.daemon = True
            timer.start()

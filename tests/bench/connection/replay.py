# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# ansible-test wants the documentation before the imports.
# ruff: noqa: E402
from __future__ import annotations

DOCUMENTATION = r"""
name: replay
short_description: Hosts that give a recorded answer, without a process or a network
description:
  - For measuring what a fleet costs the controller, and for counting what it does. Whatever the module C(kata_aio_facts) is asked, the answer is the
    content of the file that E(REPLAY_FACTS) names; every other module answers as C(ping) does.
author: The kataops founders
version_added: 0.1.0
options: {}
"""

import os

from ansible.plugins.connection import ConnectionBase


class Connection(ConnectionBase):
    transport = "replay"
    has_pipelining = True

    def _connect(self):
        return self

    def exec_command(self, cmd, in_data=None, sudoable=True):
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        if in_data and b"kata_aio_facts" in in_data:
            with open(os.environ["REPLAY_FACTS"], "rb") as answer:
                return 0, answer.read(), b""
        return 0, b'{"ping": "pong"}', b""

    def put_file(self, in_path, out_path):
        raise NotImplementedError("nothing is sent to a placeholder host")

    def fetch_file(self, in_path, out_path):
        raise NotImplementedError("nothing is fetched from a placeholder host")

    def close(self):
        pass

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's AIO switches, and the lock that all who turn them take: they are the whole machine's."""

from __future__ import annotations

from pathlib import Path

LOCK = Path("/run/lock/kataops-aio-kernel.lock")
MAX_NR = Path("/proc/sys/fs/aio-max-nr")
NR = Path("/proc/sys/fs/aio-nr")
DISABLED = Path("/proc/sys/kernel/io_uring_disabled")

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab: disposable hosts with planted faults, and the real QEMU binaries that tests need (standard library, Python >= 3.11)."""

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The version of the collection, for hosts, which have no galaxy.yml. PRIVATE to kataops.aio. A test holds it against galaxy.yml."""

VERSION = "0.2.0"

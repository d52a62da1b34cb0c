# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """The attributes that the collection's modules share; each module says its own C(support)."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
  diff_mode:
    description: Returns details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
  idempotent:
    description: When run twice in a row with the same arguments, the second run changes nothing.
  platform:
    description: Target operating systems that the module supports.
"""

    # Modules that run, or write, what others than root may own.
    TRUST = r"""
options:
  trusted_owners:
    description:
      - Users of the host, by name or number, whose files are trusted like root's - each of them can become root there.
      - A module that runs as root runs nothing that others can change, takes no path from it, and writes nothing below it; see C(docs/security.md).
        This is for sites whose Kata belongs to a user of its own. A file that group or others may write is not trusted whoever owns it.
    type: list
    elements: str
    default: []
    version_added: 0.2.0
"""

    # Modules that only look.
    INFO_MODULE = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - This action does not modify state.
  diff_mode:
    support: N/A
    details:
      - This action does not modify state.
  idempotent:
    support: full
    details:
      - This action does not modify state.
  platform:
    platforms: linux
    support: full
"""

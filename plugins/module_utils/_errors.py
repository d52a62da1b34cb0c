# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception family of the collection. PRIVATE to kataops.aio.

Every part raises :class:`AioError` (or a subclass); only a module's or an action plugin's ``main`` turns it into a failed result.
"""

from __future__ import annotations


class AioError(Exception):
    """Something that the user has to act on, told so that it can be acted on.

    :arg what: what is wrong, one sentence without the final full stop.
    :arg where: the path, variable or host object that it is about.
    :arg expected: what would have been right.
    :arg remedy: what to do now.
    :arg details: further plain data for the failed result (never needed to understand the message).
    """

    def __init__(self, what, where=None, expected=None, remedy=None, **details):
        self.what = what
        self.where = where
        self.expected = expected
        self.remedy = remedy
        self.details = details
        super().__init__(what)

    def __str__(self):
        text = "%s: %s." % (self.where, self.what) if self.where else "%s." % self.what
        if self.expected:
            text += " Expected: %s." % self.expected
        if self.remedy:
            text += " Remedy: %s." % self.remedy
        return text

    def as_failure(self):
        """The keyword arguments for ``fail_json`` or an action plugin's failed result."""
        return dict(self.details, msg=str(self))

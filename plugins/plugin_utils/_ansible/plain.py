# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plain Python values of what Ansible hands over. PRIVATE to kataops.aio."""

from __future__ import annotations

import math


def plain(value):
    """Return a copy of ``value`` made of plain JSON types only.

    Ansible hands over subclasses: unsafe strings, from ansible-core 2.19 on tagged ones, lazy containers. Equal to plain ones, they are yet of other
    types, which matters where 1 is not true and a text is not a date. What JSON cannot say becomes None (NaN, infinity) or its text. Lone surrogates,
    with which Python marks bytes that were no UTF-8, become U+FFFD, so that every renderer can encode them.
    """
    kind = type(value)
    # The common cases first: a fleet's facts are a million values.
    if value is None or kind is bool or kind is int or (kind is str and value.isascii()):
        return value
    if kind is dict:
        # pylint: disable-next=unidiomatic-typecheck  # Ansible's tagged strings are subclasses of str, and have to become plain
        return {key if type(key) is str and key.isascii() else _key(key): plain(item) for key, item in value.items()}
    if kind is list:
        return [plain(item) for item in value]
    if isinstance(value, str):
        text = str.__str__(value)
        return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value) if math.isfinite(value) else None
    if isinstance(value, dict) or hasattr(value, "keys"):
        return {_key(key): plain(value[key]) for key in value}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "replace")
    return plain(str(value))


def _key(key):
    return plain(key if isinstance(key, str) else str(key))

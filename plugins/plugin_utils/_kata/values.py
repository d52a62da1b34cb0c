# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which values each runtime takes for a key's type, as its library decodes them. Pure. PRIVATE to kataops.aio.

Measured with BurntSushi/toml 1.2.0 to 1.6.0 over the Go runtime's own structures; runtime-rs's are serde's rules for ``toml::Value``.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kataops.aio.plugins.plugin_utils._kata import keys

MAX_FLOAT32 = 3.4028234663852886e38
SAFE_FLOAT32 = 2**24 - 1  # the largest integer that BurntSushi/toml takes for a float32

#: The smallest and the largest integer of a type. Go's 64 bit unsigned types take a negative number, which wraps.
RANGES = {
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (-(2**63), 2**63 - 1),
    "uint": (-(2**63), 2**63 - 1),
    "u8": (0, 2**8 - 1),
    "u32": (0, 2**32 - 1),
    "i32": (-(2**31), 2**31 - 1),
    "i64": (-(2**63), 2**63 - 1),
    "u64": (0, 2**63 - 1),
    "usize": (0, 2**63 - 1),
}
#: Types that are strings with few values.
WORDS = {"HugePageType": ("hugetlbfs", "thp")}


class Fault(t.NamedTuple):
    """Why a value is not taken. ``path``: the keys below the one that was asked for. ``code``: the problem's. ``unsure``: it may be taken."""

    path: str
    words: str
    code: str = "wrong_type"
    unsure: bool = False


def _is_integer(value: t.Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def fault(runtime: str, release: str | None, kind: str, value: t.Any) -> Fault | None:
    """Why a value is not of a type, or None. ``kind``: a type of :mod:`keys`."""
    if kind.startswith("Option<"):
        return fault(runtime, release, kind[7:-1], value)
    kind = kind.lstrip("*")
    if kind.startswith("Vec<") or kind.startswith("[]"):
        inner = kind[4:-1] if kind.startswith("Vec<") else kind[2:]
        if not isinstance(value, list):
            return Fault("", "expected: an array")
        for number, item in enumerate(value):
            found = fault(runtime, release, inner, item)
            if found:
                return found._replace(path="[%d]%s" % (number, found.path))
        return None
    if kind in ("string", "String"):
        return None if isinstance(value, str) else Fault("", "expected: a string")
    if kind == "bool":
        return None if isinstance(value, bool) else Fault("", "expected: a boolean")
    if kind in RANGES:
        low, high = RANGES[kind]
        if not _is_integer(value):
            return Fault("", "expected: an integer")
        return None if low <= value <= high else Fault("", "expected: an integer from %d to %d" % (low, high))
    if kind in ("float32", "f32"):
        return _float_fault(runtime, value)
    if kind in WORDS:
        return None if value in WORDS[kind] else Fault("", "expected: one of %s" % ", ".join(WORDS[kind]))
    if runtime == "rs" and isinstance(value, list):
        return Fault("", "an array in place of a table, of which serde may take the members in their order", unsure=True)
    if not isinstance(value, dict):
        return Fault("", "expected: a table")
    return next(table_faults(runtime, release, kind, value), None)


def _float_fault(runtime: str, value: t.Any) -> Fault | None:
    if not (isinstance(value, float) or _is_integer(value)):
        return Fault("", "expected: a number")
    if runtime == "rs":
        return None
    if isinstance(value, float):
        return Fault("", "expected: a 32 bit float") if abs(value) > MAX_FLOAT32 else None
    return Fault("", "expected: at most %d" % SAFE_FLOAT32) if abs(value) > SAFE_FLOAT32 else None


def fold(key: str) -> str:
    """A key as Go compares it with the name of a field: without letter case (``strings.EqualFold``; all names are ASCII)."""
    return key.lower() if key.isascii() else "".join({"\u017f": "s", "\u212a": "k"}.get(char, char.lower() if char.isascii() else char) for char in key)


def table_faults(runtime: str, release: str | None, section: str, table: dict[str, t.Any]) -> t.Iterator[Fault]:
    """Everything that a runtime does not take in a table of the user's. ``path`` begins with a dot and the user's key."""
    strict = keys.strict(section, release) if runtime == "rs" else False
    seen: dict[str, str] = {}
    for key, value in table.items():
        known = keys.lookup(runtime, section, fold(key) if runtime == "go" else key, release)
        if known.has is not True and strict is not False:
            unsure = strict is None or known.has is None
            yield Fault("." + key, "runtime-rs refuses a key that it does not know in this table", "unknown_key", unsure)
        if known.has is False or known.type is None:
            continue
        if runtime == "rs" and known.name in seen:
            yield Fault("." + key, "this is %s once more" % seen[known.name], "unknown_key", known.has is None)
        seen[known.name] = key
        found = fault(runtime, release, known.type, value)
        if found:
            yield found._replace(path=".%s%s" % (key, found.path), unsure=found.unsure or known.has is None)
    if runtime == "rs":
        for key in keys.required(runtime, section, release):
            if key not in table:
                yield Fault("." + key, "expected: this key, which the release requires")

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an ELF file says without being run: its header and its dynamic section. PRIVATE to kataops.aio.

The layout is the System V ABI's (gABI, "Object Files"). Memory is bounded whatever the file claims: tables are read up to the limits below.
"""

from __future__ import annotations

import os
import struct
from collections import namedtuple

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError

Elf = namedtuple("Elf", ("architecture", "bits", "linkage", "interpreter", "needed"))
Elf.__doc__ = """An ELF file's head.

:ivar architecture: the name that ``uname -m`` has for it (``x86_64``, ``aarch64``, ``s390x``, ...); ``machine-N`` where it is not known here.
:ivar bits: 32 or 64.
:ivar linkage: ``static`` or ``dynamic`` (it names an interpreter or needs libraries; a static PIE is static).
:ivar interpreter: the dynamic loader's path, or None.
:ivar needed: list of DT_NEEDED names.
"""

MAGIC = b"\x7fELF"
_MAX_SEGMENTS = 512
_MAX_DYNAMIC = 1024 * 1024
_MAX_NEEDED = 512
_MAX_NAME = 4096

# e_machine by (number, bits, little endian); names as of uname -m.
_MACHINES = {
    (3, 32, True): "i686",
    (21, 64, False): "ppc64",
    (21, 64, True): "ppc64le",
    (22, 64, False): "s390x",
    (40, 32, True): "armv7l",
    (62, 64, True): "x86_64",
    (183, 64, True): "aarch64",
    (183, 64, False): "aarch64_be",
    (243, 64, True): "riscv64",
    (258, 64, True): "loongarch64",
}

# Which architectures' programs a kernel of that architecture runs by itself.
RUNS_ALSO = {"x86_64": ("i686",), "aarch64": ("armv7l",)}

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_STRSZ = 1, 5, 10


def read_elf(stream, where="ELF file"):
    """Read the head of an ELF file.

    :arg stream: a seekable binary stream.
    :arg where: its path, for messages.
    :returns: :class:`Elf`.
    :raises AioError: where it is no ELF file, or a damaged one.
    """
    try:
        return _read(stream)
    except (struct.error, _Damaged, OSError, OverflowError, ValueError) as exc:
        raise AioError("this is not a whole ELF file (%s)" % exc, where=where, expected="an ELF executable", remedy="install the file again") from None


class _Damaged(Exception):
    pass


def _exactly(stream, offset, size):
    if offset < 0 or offset > 1 << 62:
        raise _Damaged("an offset lies outside of the file")
    stream.seek(offset)
    data = stream.read(size)
    if len(data) != size:
        raise _Damaged("it ends too early")
    return data


def _read(stream):
    ident = _exactly(stream, 0, 16)
    if ident[:4] != MAGIC:
        raise _Damaged("no ELF magic")
    if ident[4] not in (1, 2) or ident[5] not in (1, 2):
        raise _Damaged("unknown class or byte order")
    bits = 64 if ident[4] == 2 else 32
    order = "<" if ident[5] == 1 else ">"
    layout = order + ("HHIQQQIHHH" if bits == 64 else "HHIIIIIHHH")
    head = struct.unpack(layout, _exactly(stream, 16, struct.calcsize(layout)))
    machine, table, entry_size, entries = head[1], head[4], head[8], head[9]
    interpreter, dynamic, loads = None, None, []
    segment = struct.Struct(order + ("IIQQQQQQ" if bits == 64 else "IIIIIIII"))
    if entries and entry_size < segment.size:
        raise _Damaged("program headers of %d bytes" % entry_size)
    for number in range(min(entries, _MAX_SEGMENTS)):
        fields = segment.unpack(_exactly(stream, table + number * entry_size, segment.size))
        kind = fields[0]
        if bits == 64:
            offset, address, size = fields[2], fields[3], fields[5]
        else:
            offset, address, size = fields[1], fields[2], fields[4]
        if kind == _PT_LOAD:
            loads.append((address, offset, size))
        elif kind == _PT_DYNAMIC:
            dynamic = (offset, size)
        elif kind == _PT_INTERP:
            interpreter = _exactly(stream, offset, min(size, _MAX_NAME)).split(b"\0")[0].decode("utf-8", "replace")
    needed = _needed(stream, order, bits, dynamic, loads) if dynamic else []
    architecture = _MACHINES.get((machine, bits, order == "<"), "machine-%d" % machine)
    return Elf(architecture, bits, "dynamic" if interpreter or needed else "static", interpreter, needed)


def _needed(stream, order, bits, dynamic, loads):
    entry = struct.Struct(order + ("qQ" if bits == 64 else "iI"))
    offset, size = dynamic
    data = _exactly(stream, offset, min(size, _MAX_DYNAMIC))
    names, strings, strings_size = [], None, None
    for tag, value in entry.iter_unpack(data[: len(data) // entry.size * entry.size]):
        if tag == 0:
            break
        if tag == _DT_NEEDED and len(names) < _MAX_NEEDED:
            names.append(value)
        elif tag == _DT_STRTAB:
            strings = value
        elif tag == _DT_STRSZ:
            strings_size = value
    if not names:
        return []
    if strings is None or strings_size is None:
        raise _Damaged("needed libraries without a table of names")
    for address, file_offset, length in loads:
        if address <= strings < address + length:
            base = file_offset + strings - address
            break
    else:
        raise _Damaged("the table of names is in no segment")
    found = []
    for name in names:
        if name >= strings_size:
            raise _Damaged("a library's name lies outside of the table of names")
        stream.seek(base + name)
        raw = stream.read(min(_MAX_NAME, strings_size - name))
        found.append(raw.split(b"\0")[0].decode("utf-8", "replace"))
    return found


def foreign(architecture, host=None):
    """True where a kernel of ``host`` (default: this one) does not run such an ELF by itself."""
    host = host or os.uname().machine
    return architecture != host and architecture not in RUNS_ALSO.get(host, ())

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's limits for block AIO, live and for the next boot, in one transaction. PRIVATE to kataops.aio."""

from __future__ import annotations

import base64
import os
import typing as t

from ansible_collections.kataops.aio.plugins.module_utils._change import files, transaction, values
from ansible_collections.kataops.aio.plugins.module_utils._change.journal import Journal
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._host.sysctl import boot_settings, parse

SYSCTL_FILE = "/etc/sysctl.d/60-kataops-aio.conf"
AIO_MAX_NR = "fs.aio-max-nr"
IO_URING_DISABLED = "kernel.io_uring_disabled"
INFO = {"runtimes": [], "method": "sysctl"}

Data = t.Dict[str, t.Any]


def sysctl_text(aio_max_nr: int, enable_io_uring: bool) -> str:
    """The text of the sysctl file."""
    text = (
        "# Written by the Ansible collection kataops.aio; the playbook rollback (or its role libaio, tasks_from: rollback) undoes it.\n"
        "# Linux AIO events that all AIO contexts of this machine may reserve; QEMU takes 1024 for each AioContext with aio=native.\n"
        "fs.aio-max-nr = %d\n" % aio_max_nr
    )
    if enable_io_uring:
        text += "# Everyone may use io_uring (libaio_io_uring: enable).\nkernel.io_uring_disabled = 0\n"
    return text


def _live(name: str) -> int | None:
    state, _none = values.look(name)
    return None if state["absent"] else int(state["value"])


def requests(aio_max_nr: int, enable_io_uring: bool, root: str = "") -> list[Data]:
    """The changes that raise the limits; values first, because a kernel that refuses them must leave no file behind.

    :arg aio_max_nr: the least value for fs.aio-max-nr, in events; a higher live or boot value is never lowered.
    :arg root: folder to put before the paths of sysctl files (for tests).
    :raises AioError: if this kernel has no Linux AIO, or a sysctl file that is applied later would undo it at boot.
    """
    live = _live(AIO_MAX_NR)
    if live is None:
        raise AioError("this kernel has no Linux AIO", "/proc/sys/fs/aio-max-nr", "a kernel with CONFIG_AIO", "choose another engine")
    others = [found for found in boot_settings(AIO_MAX_NR, root)["files"] if found["path"] != SYSCTL_FILE]
    for found in others:
        if _applied_later(found["path"]) and (found["value"] is None or found["value"] < aio_max_nr):
            raise _undercut(found, AIO_MAX_NR, "%d or more, or no such line" % aio_max_nr, "remove the line from that file, or raise it")
    at_boot = max([aio_max_nr] + [found["value"] for found in others if found["value"] is not None])
    wanted: list[Data] = []
    if live < at_boot:
        wanted.append({"kind": "value", "name": AIO_MAX_NR, "value": at_boot, "info": INFO})
    disabled = _live(IO_URING_DISABLED)
    enable_io_uring = enable_io_uring and disabled is not None
    if enable_io_uring:
        for found in boot_settings(IO_URING_DISABLED, root)["files"]:
            if found["path"] != SYSCTL_FILE and _applied_later(found["path"]) and found["value"] != 0:
                raise _undercut(found, IO_URING_DISABLED, "0, or no such line", "remove the line from that file, or leave io_uring as it is")
        if disabled:
            wanted.append({"kind": "value", "name": IO_URING_DISABLED, "value": 0, "info": INFO})
    path = root + SYSCTL_FILE
    present, _content = files.look(path)
    content = sysctl_text(at_boot, enable_io_uring).encode()
    wanted.append({
        "kind": "file", "name": path, "expected_sha256": present.get("sha256"), "content_b64": base64.b64encode(content).decode(),
        "mode": "0644", "uid": 0, "gid": 0, "whole_file": True, "info": INFO,
    })  # fmt: skip
    return wanted


def _applied_later(path: str) -> bool:
    return os.path.basename(path) > os.path.basename(SYSCTL_FILE)


def _undercut(found: Data, name: str, expected: str, remedy: str) -> AioError:
    value = "a value that is not a number" if found["value"] is None else found["value"]
    return AioError("this file sets %s to %s at boot, after %s; nothing was changed" % (name, value, SYSCTL_FILE), found["path"], expected, remedy)


def raise_limits(journal: Journal, wanted: list[Data], about: Data, check_mode: bool) -> Data:
    """Make the changes; ``{changed, transaction, diff, cautions}``."""
    kinds = transaction.KINDS
    needed = [request for request in wanted if kinds[request["kind"]].prepare(request, None) is not None]
    diff = [_difference(request) for request in needed]
    done = {"changed": bool(needed), "seq": None, "cautions": []}
    if needed and not check_mode:
        done = transaction.transact(journal, needed, about)
    return {"changed": done["changed"], "transaction": done["seq"], "diff": diff, "cautions": done["cautions"]}


def _difference(request: Data) -> Data:
    if request["kind"] == "value":
        before, after = "%s = %d\n" % (request["name"], _live(request["name"]) or 0), "%s = %d\n" % (request["name"], request["value"])
    else:
        _state, content = files.look(request["name"])
        before = "" if content is None else content.decode("utf-8", "backslashreplace")
        after = base64.b64decode(request["content_b64"]).decode()
    return {"before_header": request["name"], "after_header": request["name"], "before": before, "after": after}


def without_us(present: bytes, ours: bytes) -> bytes | None:
    """A sysctl file that another program changed, without the lines that we wrote; None if no setting would be left."""
    mine = set(ours.splitlines())
    rest = [line for line in present.splitlines(keepends=True) if line.rstrip(b"\r\n") not in mine]
    return b"".join(rest) if parse(b"".join(rest)) else None

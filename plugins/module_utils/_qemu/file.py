# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A QEMU as a file: what it is, and whose it is. PRIVATE to kataops.aio. Nothing is run here but rpm or dpkg-query."""

from __future__ import annotations

import os
import re
import stat

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._host import command, files
from ansible_collections.kataops.aio.plugins.module_utils._host import packages as _dpkg
from ansible_collections.kataops.aio.plugins.module_utils._host.trust import Trust
from ansible_collections.kataops.aio.plugins.module_utils._qemu.elf import MAGIC, foreign, read_elf

# A wrapper is a handful of lines; more than this is not read.
_MAX_SCRIPT = 64 * 1024


def look_at(path):
    """What the file at ``path`` is, without running it.

    :arg path: the absolute path that Kata would run.
    :returns: dict with the keys ``real_path``, ``kind``, ``file``, ``wrapper``, ``elf`` (an ``Elf`` or None), ``status`` and ``reason``.
        ``status`` is None where nothing speaks against running it.
    """
    seen = {"real_path": None, "kind": None, "file": None, "wrapper": None, "elf": None, "status": None, "reason": None}
    try:
        status = os.stat(path)
    except OSError as exc:
        missing = isinstance(exc, (FileNotFoundError, NotADirectoryError))
        dangling = " (a symbolic link that leads nowhere)" if missing and os.path.islink(path) else ""
        return dict(
            seen,
            status="missing" if missing else "unreadable",
            reason="%s: %s%s; install QEMU there or correct the path in Kata's configuration" % (path, exc.strerror, dangling),
        )
    seen["real_path"] = os.path.realpath(path)
    seen["file"] = {"size": status.st_size, "mtime": status.st_mtime, "inode": status.st_ino, "device": status.st_dev}
    if not stat.S_ISREG(status.st_mode):
        return dict(seen, kind="other", status="unreadable", reason="%s: not a regular file; name the QEMU binary itself" % path)
    try:
        head = files.read_head(path, _MAX_SCRIPT)
    except OSError as exc:
        head = None
        if not os.access(path, os.X_OK):
            return dict(seen, kind="other", status="unreadable", reason="%s: %s; run as a user that may read it" % (path, exc.strerror))
    if head is None:
        seen["kind"] = "other"
    elif head.startswith(MAGIC):
        seen["kind"] = "elf"
        _look_at_elf(seen, path)
    elif head.startswith(b"#!"):
        seen["kind"] = "script"
        _look_at_script(seen, path, head)
    else:
        what = "it is empty" if not head else "it is neither an ELF file nor a script"
        return dict(seen, kind="other", status="not_qemu", reason="%s: %s; install QEMU again" % (path, what))
    if seen["status"] is None and not os.access(path, os.X_OK):
        seen["status"] = "not_executable"
        mode = stat.S_IMODE(status.st_mode)
        seen["reason"] = "%s: no execute permission (mode %04o) or a file system mounted noexec; run chmod 0755" % (path, mode)
    if seen["status"] is None:
        _require_trust(seen, path)
    return seen


def _require_trust(seen, path):
    """Root runs only what root alone can change: the file, its interpreter, and of a wrapper all that it names."""
    trust = Trust()
    problem = trust.program_problem(path)
    for name in (seen["elf"].interpreter if seen["elf"] else None, (seen["wrapper"] or {}).get("target")):
        if problem is None and name and os.path.exists(name):
            problem = trust.program_problem(name)
    if problem:
        seen["status"] = "untrusted"
        seen["reason"] = (
            "%s: it was not run as root, because %s; chown it and its folders to root and chmod them go-w,"
            " or name their owner in kata_aio_trusted_owners" % (path, problem)
        )


def _elf_of(path):
    with files.opened(path) as descriptor, os.fdopen(os.dup(descriptor), "rb") as stream:
        return read_elf(stream, path)


def _look_at_elf(seen, path):
    try:
        seen["elf"] = _elf_of(path)
    except (OSError, AioError) as exc:
        seen["status"] = "not_qemu" if isinstance(exc, AioError) else "unreadable"
        seen["reason"] = str(exc)
        return
    if foreign(seen["elf"].architecture):
        seen["status"] = "foreign_architecture"
        seen["reason"] = "%s: built for %s, this host is %s; install the build for this architecture" % (
            path,
            seen["elf"].architecture,
            os.uname().machine,
        )


def _look_at_script(seen, path, head):
    # Only now, as most hosts have no wrapper and need not compile it
    from ansible_collections.kataops.aio.plugins.module_utils._qemu.wrapper import parse_wrapper

    target, data_dirs = parse_wrapper(head.decode("utf-8", "replace"))
    seen["wrapper"] = {"path": path, "target": target, "data_dirs": data_dirs}
    seen["real_path"] = None
    if target is None:
        return
    try:
        seen["elf"] = _elf_of(target)
        seen["real_path"] = os.path.realpath(target)
    except OSError as exc:
        if isinstance(exc, (FileNotFoundError, NotADirectoryError)):
            seen["status"] = "missing"
            seen["reason"] = "%s: this wrapper runs %s, which is not there; install QEMU there or correct the wrapper" % (path, target)
        return
    except AioError:
        return
    if foreign(seen["elf"].architecture):
        seen["status"] = "foreign_architecture"
        seen["reason"] = "%s: this wrapper runs %s, built for %s; this host is %s" % (path, target, seen["elf"].architecture, os.uname().machine)


def origin_of(path, real_path, package, version_words):
    """Whose QEMU it is: ``kata_static``, ``kataops``, ``snap``, ``distribution``, ``other``, or None where nothing is known of it."""
    if real_path is None:
        return None
    if path.startswith("/snap/") or real_path.startswith("/snap/") or real_path.endswith("/bin/snap"):
        return "snap"
    if real_path.startswith("/opt/kataops/"):
        return "kataops"
    if (version_words and "kata-static" in version_words) or re.match(r"(?:/[^/]+)*/opt/kata(?:-[^/]+)?/", real_path):
        return "kata_static"
    if package:
        return "distribution"
    return "other"


def package_of(path, root="/"):
    """The package that owns a file, as ``"name version"``; None where no package manager knows it.

    dpkg's lists are plain text and read as such; rpm is asked.
    """
    if not path or not path.startswith(("/usr/", "/bin/", "/sbin/")) or path.startswith("/usr/local/"):
        return None
    if os.path.isfile(os.path.join(root, _dpkg.STATUS)):
        return _dpkg_owner(path, root)
    if os.path.isdir(os.path.join(root, "var/lib/rpm")) or os.path.isdir(os.path.join(root, "usr/lib/sysimage/rpm")):
        owner = _output(["rpm", "-qf", "--qf", "%{NAME} %{VERSION}-%{RELEASE}\n", path])
        return owner.splitlines()[0] if owner else None
    return None


def _dpkg_owner(path, root):
    owned = _dpkg.owners([path], "*qemu*", root)
    if owned:
        name, version = owned[path]
    else:
        words = _output(["dpkg-query", "-S", path]) if root == "/" else None
        if not words:
            return None
        name = words.split(":")[0].split(",")[0]
        version = _dpkg.versions([name], root)[name]
    name = name.split(":")[0]
    return "%s %s" % (name, version) if version else name


def _output(argv):
    done = command.run(argv, 10)
    return done.text.strip() if done.status == 0 else None

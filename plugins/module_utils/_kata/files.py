# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bounded, harmless reading of configuration files below a root folder. PRIVATE to kataops.aio.

Everything here answers in data, never with an exception: what cannot be read has a ``reason``. Nothing but regular files is ever opened, no file
is read beyond :data:`MAX_FILE` bytes, and symbolic links are followed inside the root only, as a process whose root folder it is would see them.
"""

from __future__ import annotations

import base64
import errno
import fnmatch
import hashlib
import json
import os
import posixpath
import re
import stat
import zlib

from ansible_collections.kataops.aio.plugins.module_utils._host import files
from ansible_collections.kataops.aio.plugins.module_utils._host.files import kind_of
from ansible_collections.kataops.aio.plugins.module_utils._host.trust import Trust

MAX_FILE = 1024 * 1024  # bytes that are read of one file
MAX_DOCUMENTS = 1024  # documents of one host
MAX_READ = 64 * 1024 * 1024  # bytes that are read of all files together
MAX_TEXT = 8 * 1024 * 1024  # characters that travel, before they are compressed
MAX_ENTRIES = 4096  # names that are taken of one folder
NO_CONFIGURATION = ("/proc/", "/sys/", "/dev/")  # reading there may do something; only a misled pattern leads there
MAX_LINKS = 40  # symbolic links in one path (the kernel's own limit)

_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f\ufffd]")  # what TOML forbids in comments, and what the Go runtime refuses there


def strip_text(data):
    """A TOML text without the text of its comment lines; line numbers stay.

    :arg data: the file's bytes.
    :returns: ``(text, None)``, or ``(None, reason)`` when it is not UTF-8.

    A comment line is emptied only when that cannot change what a TOML reader says of the file: a file with a multi-line string is left whole, and so
    is a line with a character that TOML forbids in comments (both Kata runtimes refuse such a file) or that the Go runtime refuses (U+FFFD, before 3.21.0).
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        return None, "invalid UTF-8 at byte %d" % error.start
    if '"""' in text or "'''" in text:
        return text, None
    lines = text.split("\n")
    for number, line in enumerate(lines):
        bare = line[:-1] if line.endswith("\r") and number < len(lines) - 1 else line  # a return is a line's end only before a newline
        inner = bare.strip(" \t")
        if not inner or (inner[0] == "#" and not _CONTROL.search(bare)):
            lines[number] = ""
    return "\n".join(lines), None


class Tree:
    """A folder looked at as if it were ``/``. All paths given and returned are absolute paths inside it."""

    def __init__(self, root="/"):
        self.root = os.path.abspath(root)
        self.trust = Trust(self.root)

    def physical(self, path):
        """The path of the file for the operating system."""
        return path if self.root == "/" else self.root + path

    def lstat(self, path):
        """``(stat result, None)``, or ``(None, OSError)``; the last component is not followed."""
        try:
            return os.lstat(self.physical(path)), None
        except (OSError, ValueError) as error:
            return None, error if isinstance(error, OSError) else OSError(errno.EINVAL, str(error))

    def resolve(self, name):
        """Follow every symbolic link of an absolute path.

        :returns: ``(real path, None)``, or ``(None, OSError)``: ENOENT when it or a link's target is missing, ELOOP beyond :data:`MAX_LINKS` links.
        """
        todo = [part for part in name.split("/") if part]
        done = []
        links = 0
        while todo:
            part = todo.pop(0)
            if part == ".":
                continue
            if part == "..":
                done = done[:-1]
                continue
            here = "/" + "/".join(done + [part])
            info, error = self.lstat(here)
            if info is None:
                return None, error
            if stat.S_ISLNK(info.st_mode):
                links += 1
                if links > MAX_LINKS:
                    return None, OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                try:
                    target = os.readlink(self.physical(here))
                except OSError as error:
                    return None, error
                if target.startswith("/"):
                    done = []
                todo = [step for step in target.split("/") if step] + todo
                continue
            if todo and not stat.S_ISDIR(info.st_mode):
                return None, OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            done.append(part)
        return "/" + "/".join(done), None

    def read(self, real_path, limit=MAX_FILE):
        """``(bytes, stat result, None)`` of a regular file of up to ``limit`` bytes, else ``(None, stat result or None, reason)``."""
        info, error = self.lstat(real_path)
        if info is None:
            return None, None, error.strerror
        try:
            with files.opened(self.physical(real_path), follow=False) as descriptor:
                info = os.fstat(descriptor)
                return files.whole_from(descriptor, limit, real_path), info, None
        except OSError as error:
            return None, info, error.strerror

    def head(self, real_path, size):
        """The first ``size`` bytes of a regular file, or ``b""``."""
        try:
            return files.read_head(self.physical(real_path), size)
        except (OSError, ValueError):
            return b""

    def names(self, folder):
        """``(sorted names, None)`` of a folder (links followed), or ``(None, OSError)``. No more than :data:`MAX_ENTRIES` names."""
        real, error = self.resolve(folder)
        if real is None:
            return None, error
        try:
            names = []
            with os.scandir(self.physical(real)) as entries:
                for entry in entries:
                    names.append(entry.name)
                    if len(names) >= MAX_ENTRIES:
                        break
        except OSError as error:
            return None, error
        return sorted(names, key=os.fsencode), None

    def read_only(self, path):
        """Why root may not write to something that exists, in words; ``None`` where it may, or where only root could tell."""
        physical = self.physical(path)
        if os.geteuid() != 0 or os.access(physical, os.W_OK):
            return None
        try:
            if os.statvfs(physical).f_flag & os.ST_RDONLY:
                return "its file system is mounted read-only"
        except (OSError, ValueError) as error:
            return str(error)
        return "it is immutable, or a security module forbids writing to it"

    def glob(self, pattern):
        """The existing paths that match an absolute pattern, sorted. As Go's ``filepath.Glob``: ``*`` takes names that begin with a dot too."""
        parts = [part for part in pattern.split("/") if part]
        found = ["/"]
        for part in parts:
            if part in (".", ".."):
                found = [posixpath.normpath(posixpath.join(folder, part)) for folder in found]
            elif any(char in part for char in "*?["):
                wanted = part.replace("[^", "[!")
                found = [posixpath.join(folder, name) for folder in found for name in fnmatch.filter(self.names(folder)[0] or [], wanted)]
            else:
                found = [posixpath.join(folder, part) for folder in found if self.lstat(posixpath.join(folder, part))[0] is not None]
            if len(found) > MAX_ENTRIES:
                found = found[:MAX_ENTRIES]
        return sorted(found)


class Documents:
    """The documents of a host, each read once. See ``kata.documents`` in docs/architecture.md."""

    def __init__(self, tree):
        self.tree = tree
        self.by_path = {}
        self.absent = []
        self.limits = []
        self._texts = {}
        self._size = 0
        self._read = 0
        self._names = {}

    def add(self, name):
        """Read the file that a name leads to, once.

        :returns: its real path, or ``None`` when nothing is there (the name is then in ``absent``) or it cannot be reached.
        """
        name = posixpath.normpath(name) if name.startswith("/") else "/" + name
        if name in self._names:
            return self._names[name]
        real, error = self.tree.resolve(name)
        if real is None and error.errno == errno.ENOENT:
            self._names[name] = None
            self.absent.append(name)
            return None
        if real is None:
            # There is something, but the way to it is barred: the name stands in for the real path.
            self._names[name] = name
            self.by_path[name] = self._record(name, "loop" if error.errno == errno.ELOOP else "unreadable", None, error.strerror)
            return name
        shown = os.fsencode(real).decode("utf-8", "backslashreplace")  # the record's name: one that is not UTF-8 could not travel
        self._names[name] = shown
        if shown in self.by_path:
            record = self.by_path[shown]
            record["names"].append(name)
            if record["untrusted"]:
                record["untrusted"] = self.tree.trust.file_problem(name)
            return shown
        if len(self.by_path) >= MAX_DOCUMENTS:
            self._limit("more than %d documents" % MAX_DOCUMENTS)
            return None
        self.by_path[shown] = self._load(name, real)
        return shown

    def trusted_text(self, real_path):
        """The text of a document where only root could have written it, or ``""``: what it names may be run, or read in turn."""
        record = self.by_path.get(real_path) or {}
        return "" if record.get("untrusted") else self.text(real_path)

    def text(self, real_path):
        """The text of a document as it travels, or ``""``."""
        digest = (self.by_path.get(real_path) or {}).get("sha256")
        return self._texts.get(digest) or ""

    def packed(self):
        """All texts by the sha256 of their file: JSON, zlib, base64. One text per distinct content."""
        plain = json.dumps(self._texts, ensure_ascii=True).encode("ascii")  # in reading order: files that are alike stay close together
        return base64.b64encode(zlib.compress(plain, 9)).decode("ascii")

    def _limit(self, text):
        if text not in self.limits:
            self.limits.append(text)

    @staticmethod
    def _record(name, kind, info, reason):
        return {
            "names": [os.fsencode(name).decode("utf-8", "backslashreplace")],
            "kind": kind,
            "sha256": None,
            "reason": reason,
            "size": info.st_size if info else None,
            "mode": "%04o" % stat.S_IMODE(info.st_mode) if info else None,
            "uid": info.st_uid if info else None,
            "gid": info.st_gid if info else None,
            "untrusted": None,
        }

    def _load(self, name, real):
        if real.startswith(NO_CONFIGURATION) or self._read > MAX_READ:
            info, error = self.tree.lstat(real)
            data, reason = None, "not a place of configuration" if self._read <= MAX_READ else "more than %d bytes of files" % MAX_READ
            if self._read > MAX_READ:
                self._limit(reason)
        else:
            data, info, reason = self.tree.read(real)
            self._read += len(data) if data is not None else 0
        record = self._record(name, kind_of(info.st_mode) if info else "missing", info, reason)
        if data is None:
            return record
        record["untrusted"] = self.tree.trust.file_problem(name)
        digest = hashlib.sha256(data).hexdigest()
        record["sha256"] = digest
        if digest in self._texts:
            return record
        text, reason = strip_text(data)
        if text is not None and self._size + len(text) > MAX_TEXT:
            text, reason = None, "more than %d characters of configuration on this host" % MAX_TEXT
            self._limit(reason)
        if text is None:
            record["reason"] = reason
        else:
            self._texts[digest] = text
            self._size += len(text)
        return record

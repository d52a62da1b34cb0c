# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the sysctl files will set at the next boot. PRIVATE to kataops.aio.

The order is that of systemd-sysctl and of ``sysctl --system`` (sysctl.d(5)): files are sorted by their base name, whatever folder they lie in, and
the last one that sets a key wins; a file hides those of the same name in the folders after its own. ``/etc/sysctl.conf`` comes last:
``sysctl --system`` and ``sysctl -p`` read it, systemd-sysctl only where the distribution links it (``99-sysctl.conf``).
"""

from __future__ import annotations

import os

from ansible_collections.kataops.aio.plugins.module_utils._host.files import read_head

FOLDERS = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d")
LAST_FILE = "/etc/sysctl.conf"
_MOST_BYTES = 1 << 20


def boot_settings(key, root=""):
    """Who sets ``key`` at boot.

    :arg key: with dots, such as ``fs.aio-max-nr``.
    :arg root: folder to put before every path (for tests).
    :returns: ``{value: int or None, files: [{path, value}], reason}``: ``files`` in the order in which they are applied, each file once with the
        last value that it sets (None where that is no number); ``value`` is what wins, None where no file sets the key.
    """
    files, problems = [], []
    for path in _files(root):
        try:
            raw = read_head(root + path, _MOST_BYTES)
        except OSError as error:
            problems.append("%s: %s" % (path, error.strerror))
            continue
        values = [value for name, value in parse(raw) if name == key]
        if values:
            files.append({"path": path, "value": _number(values[-1])})
    return {"value": files[-1]["value"] if files else None, "files": files, "reason": "; ".join(problems) + "." if problems else None}


def parse(raw):
    """The settings of one sysctl file as a list of (key with dots, text); lines that set nothing are passed over. Never raises."""
    settings = []
    for line in raw.decode("utf-8", "replace").split("\n"):
        text = line.strip()
        if not text or text[0] in "#;":
            continue
        key, separator, value = text.partition("=")
        if separator:
            settings.append((key.strip().lstrip("-").strip().replace("/", "."), value.strip()))
    return settings


def _files(root):
    by_name = {}
    for folder in FOLDERS:
        try:
            names = os.listdir(root + folder)
        except OSError:
            continue  # most hosts lack some of the folders
        for name in names:
            if name.endswith(".conf"):
                by_name.setdefault(name, folder + "/" + name)
    paths = [by_name[name] for name in sorted(by_name)]
    if os.path.exists(root + LAST_FILE):
        paths.append(LAST_FILE)
    seen, unique = set(), []
    for path in reversed(paths):  # one file under two names counts where it is applied last
        real = os.path.realpath(root + path)
        if real != os.devnull and real not in seen and os.path.isfile(real):
            seen.add(real)
            unique.append(path)
    return list(reversed(unique))


def _number(text):
    digits = text[1:] if text.startswith("-") else text
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= 20 else None

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""libaio on the host: runtime library, header, linker name, static archive, and the packages that they belong to. PRIVATE to kataops.aio.

Debian 13 and Ubuntu 24.04 renamed the library to ``libaio.so.1t64`` (64-bit ``time_t``); a binary names in DT_NEEDED the one that it was linked with.
Building QEMU with ``--enable-linux-aio`` needs the header and ``libaio.so`` (dynamic) or ``libaio.a`` (``--static``); a static QEMU needs nothing of
libaio at run time.
"""

from __future__ import annotations

import glob
import os

from ansible_collections.kataops.aio.plugins.module_utils._host import command, files
from ansible_collections.kataops.aio.plugins.module_utils._host import packages as _dpkg

SONAMES = ("libaio.so.1", "libaio.so.1t64")
COMMAND_SECONDS = 20
_LIBRARY_FOLDERS = ("/lib64", "/usr/lib64", "/lib/*-linux-gnu*", "/usr/lib/*-linux-gnu*", "/lib", "/usr/lib", "/usr/local/lib64", "/usr/local/lib")
_INCLUDE_FOLDERS = ("/usr/include", "/usr/include/*-linux-gnu*", "/usr/local/include")
_ELF_CLASS_AND_MACHINE = (4, 6, 18, 20)  # slices of an ELF header: EI_CLASS and EI_DATA, then e_machine
_PARTS = ("runtime", "headers", "linker_name", "static_archive")


def observe_libaio():
    """The contract ``libaio`` of docs/architecture.md. Never raises for what the host lacks."""
    evidence = []
    own = _machine("/proc/self/exe")
    found = {
        "runtime": _runtime(own, evidence),
        "headers": _first(_candidates(_INCLUDE_FOLDERS, "libaio.h")),
        "linker_name": _first(_candidates(_LIBRARY_FOLDERS, "libaio.so"), (own, None)),  # None: a linker script
        "static_archive": _first(_candidates(_LIBRARY_FOLDERS, "libaio.a")),
    }
    manager, owners = _owners([path for path in found.values() if path], evidence)
    parts = {name: _part(found[name], owners.get(found[name]), manager, name) for name in _PARTS}
    parts["runtime"]["soname"] = os.path.basename(found["runtime"]) if found["runtime"] else None
    for name in _PARTS[1:]:
        evidence.append({"asked": "is there a %s?" % _FILE_OF[name], "answered": found[name] or "no", "by": "file"})
    return dict(parts, builds=_builds(parts), package_manager=manager, evidence=evidence)


_FILE_OF = {"runtime": "libaio.so.1 or libaio.so.1t64", "headers": "libaio.h", "linker_name": "libaio.so", "static_archive": "libaio.a"}


def _builds(parts):
    builds = {}
    for kind, needed in (("dynamic", ("headers", "linker_name", "runtime")), ("static", ("headers", "static_archive"))):
        missing = [_FILE_OF[name] for name in needed if not parts[name]["present"]]
        builds[kind] = {"ok": not missing, "missing": missing}
    return builds


def _part(path, owner, manager, name):
    package, version = owner or (None, None)
    if path is None:
        reason = "No %s in the folders where the %s looks." % (_FILE_OF[name], "dynamic loader" if name == "runtime" else "compiler")
    elif package is None:
        reason = "No package of %s owns %s." % (manager, path) if manager else "This host has neither dpkg-query nor rpm, so the package is unknown."
    else:
        reason = None
    return {"present": path is not None, "path": path, "package": package, "version": version, "reason": reason}


# --- finding the files ---


def _runtime(own, evidence):
    code, out = run(["ldconfig", "-p"])
    if code == 0:
        paths = parse_ldconfig(out)
        evidence.append({"asked": "ldconfig -p", "answered": ", ".join(paths) or "no %s" % " or ".join(SONAMES), "by": "command"})
        path = _first(paths, (own,))
        if path:
            return path
    paths = [path for soname in SONAMES for path in _candidates(_LIBRARY_FOLDERS, soname)]
    evidence.append({"asked": "the standard library folders", "answered": ", ".join(paths) or "no %s" % " or ".join(SONAMES), "by": "file"})
    return _first(paths, (own,))


def parse_ldconfig(text):
    """The paths of libaio's runtime library in the output of ``ldconfig -p``, in its order. Never raises."""
    paths = []
    for line in text.split("\n"):
        left, arrow, path = line.partition(" => ")
        words = left.split()
        if arrow and words and words[0] in SONAMES and path.startswith("/"):
            paths.append(path.strip())
    return paths


def _candidates(folders, name):
    return [path for folder in folders for path in sorted(glob.glob(os.path.join(folder, name)))]


def _first(paths, machines=None):
    """The first of ``paths`` that is a file, made for one of ``machines`` where those are given (a 64-bit host may have 32-bit libraries too)."""
    for path in paths:
        if os.path.isfile(path) and (machines is None or _machine(path) in machines):
            return path
    return None


def _machine(path):
    """What an ELF file is made for, as bytes to compare; None for what is no ELF or can't be read."""
    try:
        head = files.read_head(path, 20)
    except OSError:
        return None
    if len(head) < 20 or head[:4] != b"\x7fELF":
        return None
    start, end, machine_start, machine_end = _ELF_CLASS_AND_MACHINE
    return head[start:end] + head[machine_start:machine_end]


# --- their packages ---


def _owners(paths, evidence):
    """("dpkg", "rpm" or None, {path: (package, version)})"""
    for manager, database, ask in (("dpkg", "/" + _dpkg.STATUS, _dpkg_owners), ("rpm", None, _rpm_owners)):
        # A host of one family may have the other's tool installed, with an empty database.
        if database and not (os.path.isfile(database) and os.path.getsize(database)):
            continue
        owners = ask(paths)
        if owners is not None:
            evidence.append({"asked": "%s: who owns %s?" % (manager, ", ".join(paths) or "no file"), "answered": _names(owners), "by": "command"})
            return manager, owners
    return None, {}


def _dpkg_owners(paths):
    owned = _dpkg.owners(paths, "libaio*")
    # Asking dpkg who owns a path reads the file list of every package of the host; no package owns what is in /usr/local.
    names = {spelling: path for path in paths if path not in owned and not path.startswith("/usr/local/") for spelling in _dpkg.spellings(path)}
    if names:
        _code, out = run(["dpkg-query", "-S", *names])
        found = parse_dpkg_search(out)
        versions = _dpkg.versions(set(found.values()))
        for spelling, name in found.items():
            owned.setdefault(names.get(spelling), (name, versions[name]))
    return owned


def _rpm_owners(paths):
    if run(["rpm", "--version"])[0] != 0:
        return None
    owners = {}
    for path in paths:
        code, out = run(["rpm", "-qf", "--qf", "%{NAME}\\t%{VERSION}-%{RELEASE}\\n", path])
        owner = parse_rpm_owner(out)
        if code == 0 and owner:
            owners[path] = owner
    return owners


def _names(owners):
    return ", ".join(sorted({"%s %s" % owner for owner in owners.values()})) or "none"


def parse_dpkg_search(text):
    """{path: package} from the output of ``dpkg-query -S``; diversions are passed over. Never raises."""
    owners = {}
    for line in text.split("\n"):
        packages, separator, path = line.partition(": ")
        if separator and path.startswith("/") and not packages.startswith("diversion "):
            owners[path] = packages.split(", ")[0]
    return owners


def parse_rpm_owner(text):
    """(package, version) from the first line ``name<tab>version-release``, else None. Never raises."""
    fields = text.split("\n")[0].split("\t")
    return (fields[0], fields[1]) if len(fields) == 2 and all(fields) else None


def run(argv):
    """(exit code or None where the command is missing or hangs, standard output) of a command in the C locale."""
    done = command.run(argv, COMMAND_SECONDS, 8 * 1024 * 1024)
    return done.status, done.text

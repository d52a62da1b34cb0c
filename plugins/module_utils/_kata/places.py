# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where Kata's packagers put its base files, as data. PRIVATE to kataops.aio. docs/platforms.md is generated from it.

A shim that is told no configuration file reads ``/etc/kata-containers/configuration.toml``, else the one in the folder that its packager compiled into it.
The folder is not written anywhere else, so it is told by where the shim lies.
"""

from __future__ import annotations

import typing as t

#: An administrator's own file; read first by every shim.
OVERRIDES = "/etc/kata-containers"


class Place(t.NamedTuple):
    """A folder of base files. ``shims``: what the real paths of its shims begin with; ``source``: who says so."""

    folder: str
    shims: tuple[str, ...]
    installer: str
    source: str


PLACES = (
    Place(
        "/opt/kata/share/defaults/kata-containers",
        ("/opt/kata/",),
        "kata-deploy, static tarball",
        "kata-containers tools/packaging/static-build: PREFIX=/opt/kata",
    ),
    Place(
        "/usr/share/defaults/kata-containers",
        ("/usr/",),
        "distribution's package; `make install` from source",
        "kata-containers src/runtime/Makefile: DEFAULTSDIR",
    ),
    Place(
        "/usr/share/kata-containers/defaults",
        ("/usr/",),
        "RPM of Fedora, CentOS, RHEL, OpenShift",
        "kata-containers issues 2647 and 6395; kata-containers.spec of Fedora",
    ),
    Place("/usr/local/share/defaults/kata-containers", ("/usr/local/",), "`make install PREFIX=/usr/local`", "kata-containers src/runtime/Makefile"),
    Place(
        "/snap/kata-containers/current/usr/share/defaults/kata-containers",
        ("/snap/kata-containers/", "/usr/bin/snap"),
        "snap",
        "kata-containers snap/snapcraft.yaml: PREFIX=/snap/kata-containers/current/usr",
    ),
)


def folders() -> list[str]:
    """Every folder that may hold base files, an administrator's first."""
    return [OVERRIDES] + [place.folder for place in PLACES]


def compiled_in(shim: str | None) -> list[str]:
    """The folders that may be compiled into a shim, the likeliest first.

    :arg shim: the real path of the shim; None if there is none.
    """
    likely = [place.folder for place in PLACES if shim and shim.startswith(place.shims)]
    if shim and shim.startswith("/usr/local/"):
        # `make install` without a PREFIX puts the shim there and its defaults into /usr/share; or a shim of Kata's own was copied there.
        return likely + [PLACES[0].folder]
    if shim and not likely:
        # An installation elsewhere: its own prefix, as kata-deploy's wrappers have it, then Kata's
        prefix = shim.rsplit("/", 2)[0] if "/bin/" in shim else None
        likely = ["%s/share/defaults/kata-containers" % prefix] if prefix else []
        return likely + [PLACES[0].folder]
    return likely or [place.folder for place in PLACES]

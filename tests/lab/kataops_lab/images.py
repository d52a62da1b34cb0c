# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root file systems of disposable hosts: mmdebstrap -> cached tarball -> podman image."""

from __future__ import annotations

import datetime
import platform
import subprocess

from .places import cache, cached, digest, in_use
from .podman import podman
from .shell import LabError, run, timed

SUITES = {"bullseye": "Debian 11", "bookworm": "Debian 12", "trixie": "Debian 13"}
PACKAGES = ("ca-certificates", "dbus", "iproute2", "openssh-server", "procps", "python3", "python3-apt", "sudo", "systemd-sysv")
# A host is a privileged container: it shares the machine's kernel and devices, so nothing in it may set them up at boot.
# The apt timers would hold apt's lock in the middle of a test.
MASKED = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "console-getty.service", "dev-hugepages.mount", "e2scrub_all.timer", "fstrim.timer",
    "getty.target", "kmod-static-nodes.service", "modprobe@.service", "proc-sys-fs-binfmt_misc.automount", "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "systemd-binfmt.service", "systemd-hwdb-update.service",
    "systemd-logind.service", "systemd-modules-load.service", "systemd-random-seed.service", "systemd-remount-fs.service",
    "systemd-sysctl.service", "systemd-timesyncd.service", "systemd-udev-trigger.service", "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket", "systemd-udevd.service",
)  # fmt: skip
# Settings of the machine's apt that decide whether a mirror can be reached and is believed
APT_SETTINGS = ("Acquire::http::Proxy", "Acquire::https::Proxy", "Acquire::Check-Valid-Until", "Acquire::Check-Date")


def debian_mirror():
    """The machine's own Debian mirror, or None (mmdebstrap's default then)."""
    if not hasattr(platform, "freedesktop_os_release") or platform.freedesktop_os_release().get("ID") != "debian":
        return None
    listed = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)", "Created-By: Packages").stdout
    for line in listed.splitlines():
        uri, codename, component = (line.split() + ["", "", ""])[:3]
        if component == "main" and uri.startswith(("http:", "https:")) and "-" not in codename:
            return uri
    return None


def apt_options():
    """mmdebstrap options that hand on the machine's own apt settings; they stay in the root file system."""
    if not (settings := run("apt-config", "dump", check=False).stdout):
        return []
    return [f"--aptopt={line.rstrip(';')}" for line in settings.splitlines() if line.startswith(APT_SETTINGS)]


def mmdebstrap(suite, target, *options):
    """Makes `target` (a tarball's or a folder's path) from the suite."""
    command = ["mmdebstrap", "--quiet", *apt_options(), *options, suite, str(target)]
    if mirror := debian_mirror():
        command.append(mirror)
    run(*command, timeout=900)


def rootfs(suite):
    """The suite's root file system as a cached tarball; its key is suite, packages, set-up and month."""
    if suite not in SUITES:
        raise LabError(f"unknown suite '{suite}'; known: {', '.join(SUITES)}")
    key = digest(suite, PACKAGES, MASKED, apt_options(), f"{datetime.date.today():%Y-%m}")
    path = cache() / "images" / f"rootfs-{suite}-{key}.tar.zst"

    def make(part):
        with timed(f"root file system {suite} ({SUITES[suite]}), about 40 s"):
            tarball = part.with_suffix(".tar")
            try:
                mmdebstrap(
                    suite, tarball, "--variant=minbase", "--format=tar", f"--include={','.join(PACKAGES)}",
                    # an emptied folder of package lists looks fresh to Ansible's cache_valid_time
                    "--skip=cleanup/apt/lists",
                    "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
                    "--dpkgopt=path-exclude=/usr/share/locale/*",
                    f"--customize-hook=chroot \"$1\" systemctl mask {' '.join(MASKED)}",
                )  # fmt: skip
                run("zstd", "-q", "-3", "-T2", "-f", tarball, "-o", part)
            finally:
                tarball.unlink(missing_ok=True)

    path.parent.mkdir(exist_ok=True)
    cached(path, make)
    in_use(path, f"rootfs-{suite}-*")
    return path, key


def image(suite):
    """Name of the podman image of the suite, imported when podman does not have it."""
    path, key = rootfs(suite)
    name = f"localhost/kataops-aio-{suite}:{key}"
    if podman("image", "exists", name, check=False).returncode != 0:
        with timed(f"image {name}"), subprocess.Popen(["zstd", "-dcq", str(path)], stdout=subprocess.PIPE) as unpack:
            podman("import", "--quiet", "-", name, stdin_from=unpack.stdout)
            unpack.stdout.close()
        if unpack.returncode != 0:
            podman("rmi", "-f", name, check=False)
            path.unlink()
            raise LabError(f"{path} was damaged and has been removed: run this again")
    return name


def forget(reference="localhost/kataops-aio-*"):
    """Removes podman's copies of the lab's images, but those that a host of another checkout still runs on; the cached tarballs stay. Returns what stays."""
    for name in known_to_podman(reference):
        # With -f podman would remove the hosts, too, whosoever they are
        podman("rmi", name, check=False)
    return known_to_podman(reference)


def known_to_podman(reference):
    return podman("images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", f"reference={reference}").stdout.split()

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Kata Containers needs of a QEMU besides the engines, as data, by target architecture. PRIVATE to kataops.aio.

Devices: the list that Kata's own build verifies after a build (tools/packaging/static-build/qemu, releases 3.8 to 4.1). Kata's ``-no-shared-fs`` QEMU
of 4.1 leaves some out on purpose, so a missing one is an observation, not yet a fault. Objects: what Kata's command line and hot-plug create for
every sandbox; the confidential guests' objects are left out, since only their own handlers need them.
"""

from __future__ import annotations

import os
import re

_PCI_DEVICES = (
    "virtio-blk-pci", "virtio-scsi-pci", "scsi-hd", "virtio-net-pci", "virtio-serial-pci", "virtconsole", "virtio-rng-pci", "vhost-vsock-pci",
    "vhost-user-blk-pci", "vfio-pci", "pci-bridge", "virtio-mem-pci", "virtio-balloon-pci", "virtio-9p-pci", "vhost-user-fs-pci", "nvdimm",
    "pcie-root-port", "x3130-upstream", "xio3130-downstream", "pcie-pci-bridge", "pxb-pcie",
)  # fmt: skip
DEVICES = {
    "x86_64": _PCI_DEVICES + ("intel-iommu", "amd-iommu", "pvpanic"),
    "aarch64": _PCI_DEVICES,
    "ppc64": ("virtio-blk-pci", "virtio-scsi-pci", "scsi-hd", "virtio-net-pci", "virtio-serial-pci", "virtio-rng-pci", "vhost-vsock-pci"),
    "s390x": (
        "virtio-blk-ccw", "virtio-scsi-ccw", "scsi-hd", "virtio-net-ccw", "virtio-serial-ccw", "virtconsole", "virtio-rng-ccw", "vhost-vsock-ccw",
        "virtio-9p-ccw", "vhost-user-fs-ccw", "vfio-ccw", "vfio-ap",
    ),
}  # fmt: skip
OBJECTS = ("iothread", "memory-backend-file", "memory-backend-memfd", "memory-backend-ram", "rng-random")

MACHINES = {"x86_64": ("q35", "microvm"), "aarch64": ("virt",), "ppc64": ("pseries",), "s390x": ("s390-ccw-virtio",), "riscv64": ("virt",)}

# QEMU says at its start, and for nothing, which device classes of its -global options it does not have. Asking for them over QMP makes an instance of
# each, or drains RCU for each. The last name is in no QEMU: where QEMU does not complain of it, its silence about the others tells nothing.
_PROPERTY = "kataops-aio"
_NO_DEVICE = "kataops-aio-none"
GLOBALS = tuple(
    word for name in sorted({name for names in DEVICES.values() for name in names}) + [_NO_DEVICE] for word in ("-global", "%s.%s=1" % (name, _PROPERTY))
)
_ABSENT = re.compile(r"warning: global (\S+)\.%s has invalid class name" % _PROPERTY)


def absent_devices(stderr, target):
    """Kata's devices that a QEMU started with :data:`GLOBALS` does not have.

    :arg stderr: all that it printed there before it answered over QMP.
    :arg target: QEMU's target, e.g. ``x86_64``.
    :returns: list of names; None where its words do not tell. Those that a module brings are among them.
    """
    absent = set(_ABSENT.findall(stderr))
    return [name for name in DEVICES[target] if name in absent] if _NO_DEVICE in absent else None


# Read when a q35 guest with a kernel of its own starts; QEMU refuses the machine or a device where one is missing.
FIRMWARE_REQUIRED = {
    "x86_64": ("bios-256k.bin", "linuxboot_dma.bin", "kvmvapic.bin", "efi-virtio.rom"),
    "ppc64": ("slof.bin",),
    "s390x": ("s390-ccw.img",),
}
FIRMWARE_OPTIONAL = {"x86_64": ("pvh.bin", "linuxboot.bin", "multiboot_dma.bin", "qboot.rom")}


def firmware(search_paths, target):
    """Look for the firmware of a target in the folders that QEMU itself searches, in their order.

    :arg search_paths: what ``-L help`` printed.
    :arg target: QEMU's target, e.g. ``x86_64``.
    :returns: ``{search_paths, missing, found, reason}``; ``missing`` lists required names only.
    """
    found = {}
    required = FIRMWARE_REQUIRED.get(target, ())
    for name in required + FIRMWARE_OPTIONAL.get(target, ()):
        for folder in search_paths:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and os.access(path, os.R_OK):
                found[name] = os.path.normpath(path)
                break
    missing = [name for name in required if name not in found]
    reason = None
    if missing:
        reason = "%s not found in %s; name the folder with -L or install the firmware" % (", ".join(missing), ", ".join(search_paths) or "no folder")
    return {"search_paths": list(search_paths), "missing": missing, "found": found, "reason": reason}


def machine_types(machines, target):
    """Which of Kata's machine types a QEMU has, by name or alias.

    :arg machines: the ``return`` of ``query-machines``.
    """
    names = set()
    for machine in machines:
        names.update(value for value in (machine.get("name"), machine.get("alias")) if value)
    return [name for name in MACHINES.get(target, ()) if name in names]

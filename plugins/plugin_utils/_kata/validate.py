# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each runtime refuses of values that it could decode. Pure. PRIVATE to kataops.aio.

Read from the loaders, Kata 3.0.0 to 4.1.0: Go ``newQemuHypervisorConfig`` and its like, ``checkConfig``; runtime-rs ``adjust_config`` and ``validate`` of
``kata-types``. :data:`CHOICES` and :data:`FILES` are also what docs/kata-compatibility.md is made from. What is not here is not modelled: that page says what.
"""

from __future__ import annotations

import functools
import typing as t

from ansible_collections.kataops.aio.plugins.plugin_utils._kata import releases
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.merge import Merge

Data = t.Dict[str, t.Any]
#: ``{exists, kind, size}`` of a path on the host, or None where the host was not asked.
Files = t.Callable[[str], t.Optional[Data]]


class Choice(t.NamedTuple):
    """A key that takes a few words only; an empty one is the default. ``hypervisors``: of which tables, none for ``[runtime]``."""

    runtime: str
    hypervisors: tuple[str, ...]
    key: str
    allowed: tuple[str, ...]
    since: str | None = None
    until: str | None = None  # the first release that it no longer holds for


GO_DRIVERS = ("virtio-scsi", "virtio-blk", "virtio-mmio", "nvdimm", "virtio-blk-ccw")
RS_DRIVERS = ("virtio-blk-pci", "virtio-blk-ccw", "virtio-blk-mmio", "virtio-pmem", "virtio-scsi")
RS_DRIVERS_OLD = ("virtio-blk", "virtio-blk-ccw", "virtio-mmio", "nvdimm", "virtio-scsi")
RS_ALL = ("qemu", "cloud-hypervisor", "clh", "dragonball", "firecracker", "remote", "openvmm")
EMPTYDIR = ("shared-fs", "block-encrypted")

CHOICES = (
    Choice("go", ("qemu", "clh", "firecracker", "stratovirt"), "block_device_driver", GO_DRIVERS),
    Choice("go", ("qemu",), "block_device_aio", releases.ENGINES, "3.0.0"),
    Choice("go", ("qemu",), "shared_fs", ("virtio-9p", "virtio-fs", "virtio-fs-nydus"), None, "3.2.0"),
    Choice("go", ("qemu",), "shared_fs", ("virtio-9p", "virtio-fs", "virtio-fs-nydus", "none"), "3.2.0"),
    Choice("go", ("clh",), "shared_fs", ("virtio-fs", "virtio-fs-nydus"), None, "3.2.0"),
    Choice("go", ("clh", "stratovirt"), "shared_fs", ("virtio-fs", "virtio-fs-nydus", "none"), "3.2.0"),
    Choice("go", ("qemu",), "extra_monitor_socket", ("hmp", "qmp", "qmp-pretty"), "3.2.0"),
    Choice("go", (), "internetworking_model", ("default", "macvtap", "tcfilter", "none")),
    Choice("go", (), "vfio_mode", ("vfio", "guest-kernel")),
    Choice("go", (), "emptydir_mode", EMPTYDIR, "3.28.0", "4.0.0"),
    Choice("go", (), "emptydir_mode", EMPTYDIR + ("block-plain",), "4.0.0"),
    Choice("rs", RS_ALL, "block_device_driver", RS_DRIVERS_OLD, None, "3.2.0"),
    Choice("rs", RS_ALL, "block_device_driver", RS_DRIVERS, "3.2.0"),
    Choice("rs", RS_ALL, "block_device_aio", releases.ENGINES, "3.20.0"),
    Choice("rs", RS_ALL, "vm_rootfs_driver", RS_DRIVERS, "3.2.0"),
    Choice("rs", RS_ALL, "shared_fs", ("virtio-fs", "inline-virtio-fs", "virtio-9p"), None, "3.18.0"),
    Choice("rs", RS_ALL, "shared_fs", ("virtio-fs", "inline-virtio-fs", "virtio-9p", "none"), "3.18.0", "3.29.0"),
    Choice("rs", RS_ALL, "shared_fs", ("virtio-fs", "inline-virtio-fs", "none"), "3.29.0", "3.32.0"),
    Choice("rs", RS_ALL, "shared_fs", ("virtio-fs", "inline-virtio-fs", "virtio-fs-nydus", "none"), "3.32.0"),
    Choice("rs", (), "internetworking_model", ("macvtap", "none", "tcfilter"), None, "4.1.0"),
    Choice("rs", (), "internetworking_model", ("macvtap", "none", "tcfilter", "l3forwarding"), "4.1.0"),
    Choice("rs", (), "vfio_mode", ("vfio", "guest-kernel")),
    Choice("rs", (), "emptydir_mode", EMPTYDIR, "3.31.0", "4.0.0"),
    Choice("rs", (), "emptydir_mode", EMPTYDIR + ("block-plain",), "4.0.0"),
)

#: Keys whose file must exist where they are not empty.
FILES = {
    ("go", "qemu"): ("path", "kernel", "initrd", "image", "firmware", "firmware_volume", "pflashes"),
    ("go", "clh"): ("path", "kernel", "initrd", "image", "firmware"),
    ("go", "firecracker"): ("path", "jailer_path", "kernel", "initrd", "image", "firmware"),
    ("go", "stratovirt"): ("path", "kernel", "initrd", "image"),
    ("go", "dragonball"): ("kernel", "image"),
    ("rs", ""): ("path", "ctlpath", "jailer_path", "kernel", "image", "initrd", "firmware", "pflashes", "entropy_source", "prefetch_list_path"),
}

#: The tables of hypervisors that a runtime knows: name → (first release, the first that does not know it any more).
HYPERVISORS: dict[str, dict[str, tuple[str | None, str | None]]] = {
    "go": {
        "qemu": (None, None),
        "clh": (None, None),
        "firecracker": (None, None),
        "dragonball": ("3.0.0", None),
        "acrn": (None, "3.10.0"),
        "stratovirt": ("3.3.0", None),
        "remote": ("3.3.0", None),
    },
    "rs": {
        "dragonball": (None, None),
        "qemu": ("3.1.0", None),
        "cloud-hypervisor": ("3.2.0", "3.30.0"),
        "clh": ("3.30.0", None),
        "firecracker": ("3.7.0", None),
        "remote": ("3.11.0", None),
    },
}
#: Plug-ins of runtime-rs that are in a build only where its maker asked for them, and since when.
RS_OPTIONAL = {"openvmm": "4.1.0"}

#: The drivers of block devices that each hypervisor of runtime-rs takes of those above.
_RS_REFUSED_DRIVERS = {"qemu": ("virtio-blk-mmio", "virtio-mmio"), "dragonball": ("virtio-blk-ccw", "virtio-scsi")}
#: Keys that must be empty, false or zero in runtime-rs, by hypervisor.
RS_EMPTY = {
    "qemu": ("jailer_path", "valid_jailer_paths"),
    "cloud-hypervisor": ("jailer_path", "valid_jailer_paths"),
    "clh": ("jailer_path", "valid_jailer_paths"),
    "dragonball": (
        "path",
        "valid_hypervisor_paths",
        "ctlpath",
        "valid_ctlpaths",
        "enable_iothreads",
        "firmware",
        "enable_iommu",
        "enable_iommu_platform",
        "machine_type",
        "pflashes",
        "rootless",
    ),
}


def _in(release: str | None, since: str | None, until: str | None) -> bool | None:
    """Is a release in a span? None where that cannot be told."""
    after = True if since is None else releases.at_least(release, since)
    before = True if until is None else None if releases.at_least(release, until) is None else not releases.at_least(release, until)
    if after is False or before is False:
        return False
    return None if after is None or before is None else True


class _Check:
    """One table while it is checked."""

    def __init__(self, merge: Merge, label: str, values: Data, where: t.Callable[[str], str], files: Files) -> None:
        self.merge = merge
        self.label = label
        self.values = values
        self.where = where
        self.files = files

    def get(self, key: str) -> t.Any:
        return self.values.get(key)

    def bad(self, key: str, words: str, code: str = "invalid_value", sure: bool | None = True) -> None:
        """Tell that the runtime refuses a value; with ``sure`` None that it may."""
        where = self.where(key)
        value = self.get(key)
        detail = "%s%s.%s%s; %s" % (self.merge.line(where, key), self.label, key, "" if value is None else " = %r" % (value,), words)
        if self.merge.runtime == "rs" and code not in ("file_missing", "qemu_missing", "path_not_absolute") and self.since("3.1.0") is False:
            return  # runtime-rs 3.0 validates nothing
        if sure:
            self.merge.add(code, where, detail)
        else:
            self.merge.doubt(where, detail)

    def since(self, release: str) -> bool | None:
        return releases.at_least(self.merge.release, release)

    def file(self, key: str, path: str) -> None:
        """A file that the runtime resolves must exist."""
        code = "qemu_missing" if key == "path" and self.label == "hypervisor.qemu" else "file_missing"
        if not path.startswith("/"):
            self.bad(key, "expected: an absolute path", "path_not_absolute" if key == "path" else code)
            return
        record = self.files(path)
        if record is not None and not record["exists"]:
            self.bad(key, "%s does not exist" % path, code)
        elif record is not None and record["kind"] == "regular" and record["size"] == 0 and key in ("image", "initrd") and self.merge.runtime == "go":
            self.bad(key, "%s is empty" % path, code)


def _choices(check: _Check, hypervisor: str | None) -> None:
    for choice in CHOICES:
        value = check.get(choice.key)
        if choice.runtime != check.merge.runtime or not isinstance(value, str) or value == "" or value in choice.allowed:
            continue
        if hypervisor not in choice.hypervisors if hypervisor else choice.hypervisors:
            continue
        if choice.runtime == "rs" and choice.key.startswith("block_device_") and check.get("disable_block_device_use"):
            continue
        held = _in(check.merge.release, choice.since, choice.until)
        if held is not False:
            code = "invalid_aio" if choice.key == "block_device_aio" else "invalid_value"
            check.bad(choice.key, "expected: one of %s" % ", ".join(choice.allowed), code, held)


def _sectors(check: _Check) -> None:
    known = check.since("3.29.0")
    sizes = [check.get("block_device_logical_sector_size") or 0, check.get("block_device_physical_sector_size") or 0]
    if known is False:
        return
    for key, size in zip(("block_device_logical_sector_size", "block_device_physical_sector_size"), sizes):
        if size and (not 512 <= size <= 65536 or size & (size - 1)):
            check.bad(key, "expected: 0 or a power of 2 from 512 to 65536", sure=known)
            return
    if sizes[0] and sizes[1] and sizes[0] > sizes[1]:
        check.bad("block_device_logical_sector_size", "expected: not larger than block_device_physical_sector_size = %d" % sizes[1], sure=known)


def _named_files(check: _Check, keys: t.Iterable[str]) -> None:
    for key in keys:
        value = check.get(key)
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, str) and path:
                check.file(key, path)


def _images(check: _Check) -> None:
    """Guest extension images, from 4.0.0."""
    for image in check.get("guest_extension_images") or ():
        name = image.get("name") if isinstance(image, dict) else None
        if not isinstance(name, str) or not name or not all(char.isascii() and (char.isalnum() or char in "-_") for char in name):
            check.bad("guest_extension_images", "expected: a name of ASCII letters, digits, '-' and '_' in each")
        elif check.merge.runtime == "rs" and image.get("path"):
            check.file("guest_extension_images", image["path"])


def _go_hypervisor(check: _Check, name: str) -> None:
    _named_files(check, FILES.get(("go", name), ()))
    _choices(check, name)
    if name in ("clh", "stratovirt") and not check.get("image") and not check.get("initrd"):
        check.bad("image", "expected: an image or an initrd")
    if name == "stratovirt" and check.get("image") and check.get("initrd"):
        check.bad("initrd", "expected: an image or an initrd, not both")
    if name in ("qemu", "clh", "stratovirt"):
        shared = check.get("shared_fs") or "virtio-fs"
        if shared in ("virtio-fs", "virtio-fs-nydus") and check.get("virtio_fs_daemon") in (None, "") and "virtio_fs_daemon" not in _random(check):
            check.bad("virtio_fs_daemon", "expected: a daemon, as shared_fs is %s" % shared)
    if name in ("qemu", "stratovirt"):
        _sectors(check)
    if name == "qemu":
        _images(check)
    if name in ("qemu", "clh") and check.since("3.2.0") is not False:
        _ports(check, name)


def _random(check: _Check) -> list[str]:
    return [key for key, value in check.values.items() if value is None]


def _ports(check: _Check, name: str) -> None:
    """``hot_plug_vfio`` and ``cold_plug_vfio``, from 3.2.0 (``checkPCIeConfig``)."""
    cold, hot = check.get("cold_plug_vfio") or "no-port", check.get("hot_plug_vfio") or "no-port"
    sure = check.since("3.2.0")
    if cold != "no-port" and hot != "no-port":
        check.bad("hot_plug_vfio", "expected: no-port, as cold_plug_vfio is %s" % cold, sure=sure)
    elif (cold, hot) != ("no-port", "no-port") and (check.get("machine_type") or "q35") in ("q35", "virt"):
        key, port = ("cold_plug_vfio", cold) if cold != "no-port" else ("hot_plug_vfio", hot)
        if port not in ("bridge-port", "root-port", "switch-port"):
            check.bad(key, "expected: one of no-port, bridge-port, root-port, switch-port", sure=sure)
        elif name == "clh" and port != "root-port":
            check.bad(key, "expected: root-port or no-port", sure=sure)
        elif name == "clh" and key == "cold_plug_vfio":
            newer = check.since("3.29.0")
            if newer is not True:
                check.bad(key, "Cloud Hypervisor takes no cold-plug before 3.29.0", sure=None if newer is None else True)


def _go_rest(merge: Merge, name: str | None, where: t.Callable[[str, str], str], files: Files) -> None:
    runtime = _Check(merge, "runtime", merge.tables["runtime"], lambda key: where("runtime", key), files)
    _choices(runtime, None)
    if runtime.get("disable_new_netns") and runtime.get("internetworking_model") != "none":
        runtime.bad("disable_new_netns", "expected: internetworking_model none with it")
    if runtime.get("experimental"):
        runtime.bad("experimental", "the Go runtime has no experimental feature")
    seen: dict[str, str] = {}
    for path in runtime.get("sandbox_bind_mounts") or ():
        if path.startswith("/"):
            runtime.file("sandbox_bind_mounts", path)
        base = path.rstrip("/").rsplit("/", 1)[-1]
        if base in seen:
            merge.doubt(where("runtime", "sandbox_bind_mounts"), "%s and %s have one name" % (seen[base], path))
        seen[base] = path
    factory = _Check(merge, "factory", merge.tables["factory"], lambda key: where("factory", key), files)
    if factory.get("vm_cache_number") and name not in (None, "qemu"):
        factory.bad("vm_cache_number", "expected: 0 with %s" % name)
    if factory.get("enable_template") and name and not merge.hypervisors[name].get("initrd"):
        old = _in(merge.release, None, "3.32.0")
        if old is not False and name != "remote":
            factory.bad("enable_template", "expected: an initrd with it, before 3.32.0", sure=old)


def _rs_hypervisor(check: _Check, name: str) -> None:
    release = check.merge.release
    _named_files(check, FILES["rs", ""])
    _choices(check, name)
    used = not check.get("disable_block_device_use")
    driver = check.get("block_device_driver")
    if used and driver in _RS_REFUSED_DRIVERS.get(name, ()):
        check.bad("block_device_driver", "%s does not take it" % name)
    if used:
        _sectors(check)
    if used and check.get("enable_vhost_user_store"):
        check.file("vhost_user_store_path", check.get("vhost_user_store_path") or "/var/run/vhost-user")
    for key in RS_EMPTY.get(name, ()):
        if check.get(key):
            check.bad(key, "expected: none, %s does not take it" % name)
    for key in ("default_bridges", "pcie_root_port", "pcie_switch_port") if name == "dragonball" else ():
        if check.get(key) and check.since("4.0.0") is not False:
            check.bad(key, "expected: none, dragonball does not take it", sure=check.since("4.0.0"))
    _rs_boot(check, name)
    if check.get("pcie_root_port") and check.get("pcie_switch_port"):
        held = releases.at_least(release, "3.17.0")
        if held is not False:
            check.bad("pcie_switch_port", "expected: no pcie_root_port with it", sure=held)
    if check.get("enable_guest_swap"):
        held = _in(release, "3.15.0", None) if name == "qemu" else _in(release, None, "3.15.0") if name == "dragonball" else False
        if held is not False:
            check.bad("enable_guest_swap", "%s does not take it" % name, sure=held)
    smallest = 128 if name == "firecracker" else 64
    memory = check.get("default_memory")
    if memory and memory < smallest and name != "openvmm":
        check.bad("default_memory", "expected: at least %d" % smallest)
    if name == "firecracker" and not check.get("memory_slots"):
        check.bad("memory_slots", "expected: not 0")
    _rs_shared(check, name)
    _images(check)
    if name == "remote":
        check.merge.doubt(check.where("hypervisor_socket"), "hypervisor.remote asks for a socket and for the host's own memory and processors")


def _rs_boot(check: _Check, name: str) -> None:
    kernel, image, initrd = check.get("kernel"), check.get("image"), check.get("initrd")
    if not kernel and name not in ("remote", "openvmm"):
        check.bad("kernel", "expected: the guest's kernel", "incomplete_hypervisor")
    if image and initrd:
        check.bad("initrd", "expected: an image or an initrd, not both")
    rootfs = check.get("vm_rootfs_driver") or ""
    confidential = bool(check.get("confidential_guest"))
    if name == "firecracker" and not image:
        check.bad("image", "expected: the guest's image", "incomplete_hypervisor")
    elif not image and not initrd and name in ("qemu", "cloud-hypervisor", "clh", "dragonball"):
        ccw = name == "qemu" and rootfs.endswith("ccw") and confidential and check.since("3.15.0") is not False
        if not ccw:
            check.bad("image", "expected: the guest's image or an initrd", "incomplete_hypervisor")
    if name in ("firecracker", "openvmm") and not check.get("path"):
        check.bad("path", "expected: the hypervisor's path", "incomplete_hypervisor")
    held = check.since("3.28.0")
    if name in ("qemu", "cloud-hypervisor", "clh") and confidential and rootfs == "virtio-blk-mmio" and held is not False:
        check.bad("vm_rootfs_driver", "expected: another one with confidential_guest", sure=held)


def _rs_shared(check: _Check, name: str) -> None:
    shared = check.get("shared_fs")
    if shared == "":
        shared = "virtio-fs"
    if shared in ("virtio-fs", "inline-virtio-fs", "virtio-fs-nydus"):
        cache = check.get("virtio_fs_cache")
        if cache and cache not in ("never", "auto", "always", "none"):
            check.bad("virtio_fs_cache", "expected: one of never, auto, always")
        if shared != "inline-virtio-fs":
            _named_files(check, ("virtio_fs_daemon",))
    size = check.get("msize_9p")
    if shared == "virtio-9p" and check.since("3.29.0") is False and (not size and check.since("3.24.0") is False or size and not 4 <= size <= 8):
        check.bad("msize_9p", "expected: from 4 to 8")
    if name == "dragonball" and shared not in (None, "none", "virtio-fs", "inline-virtio-fs"):
        check.bad("shared_fs", "dragonball does not take it")


def _rs_rest(merge: Merge, where: t.Callable[[str, str], str], files: Files) -> None:
    runtime = _Check(merge, "runtime", merge.tables["runtime"], lambda key: where("runtime", key), files)
    _choices(runtime, None)
    for mount in runtime.get("shared_mounts") or ():
        empty = [key for key in ("name", "src_ctr", "dst_ctr", "src_path", "dst_path") if not mount.get(key)]
        if empty:
            runtime.bad("shared_mounts", "expected: %s in each" % ", ".join(empty))
    for path in runtime.get("sandbox_bind_mounts") or ():
        if path.startswith("/") and ":" not in path:
            runtime.file("sandbox_bind_mounts", path)
    for name, table in merge.agents.items():
        agent = _Check(merge, "agent." + name, table, functools.partial(where, "agent." + name), files)
        dial = table.get("dial_timeout_ms", 10)
        if dial == 0 and agent.since("3.1.0") is not False:
            agent.bad("dial_timeout_ms", "expected: not 0", sure=agent.since("3.1.0"))
        if table.get("reconnect_timeout_ms", 3000) < dial and agent.since("4.1.0") is not False:
            agent.bad("reconnect_timeout_ms", "expected: at least dial_timeout_ms = %d" % dial, sure=agent.since("4.1.0"))


def _source(sources: t.Mapping[str, str], base_path: str, key: str) -> str:
    """The file that a key of a table came from."""
    return sources.get(key, base_path)


def _known_hypervisor(merge: Merge, name: str) -> bool | None:
    known = HYPERVISORS[merge.runtime]
    if name in known:
        return _in(merge.release, *known[name])
    if merge.runtime == "rs" and name in RS_OPTIONAL and releases.at_least(merge.release, RS_OPTIONAL[name]) is not False:
        return None
    return None if releases.newer_than_known(merge.release) else False


def validate(merge: Merge, base_path: str, files: Files) -> None:
    """Tell the merge everything that the runtime refuses of its values.

    :arg files: what is known of a path of the host.
    """
    for name, table in merge.hypervisors.items():
        sources = merge.sources[name]
        known = _known_hypervisor(merge, name)
        if known is not True:
            source = next(iter(sources.values()), base_path)
            words = "[hypervisor.%s] is not a hypervisor that this release %s" % (name, "knows" if known is False else "is known to have")
            if known is False:
                merge.add("unknown_hypervisor", source, words)
                continue
            merge.doubt(source, words)
        check = _Check(merge, "hypervisor." + name, table, functools.partial(_source, sources, base_path), files)
        (_go_hypervisor if merge.runtime == "go" else _rs_hypervisor)(check, name)

    def where(section: str, key: str) -> str:
        return merge.origins.get(tuple(section.split(".")) + (key,), base_path)

    if merge.runtime == "rs":
        _rs_rest(merge, where, files)
        return
    names = sorted(merge.hypervisors)
    if len(names) > 1:
        merge.add("several_hypervisors", base_path, ", ".join(names))
        merge.doubt(base_path, "the Go runtime takes one of several hypervisors at random: %s" % ", ".join(names))
    _go_rest(merge, names[0] if len(names) == 1 else None, where, files)

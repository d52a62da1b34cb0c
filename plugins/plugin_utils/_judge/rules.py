# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue of findings, as data. PRIVATE to kataops.aio.

A rule says what a finding means and what to do; when it applies is decided in ``assess.py``. ``docs/rules.md`` is generated from this file
(``python docs/generate.py``), so a rule is written once. Its text holds for every way in which it can be reached; what is particular to a host is the
finding's detail.

``severity``: ``error`` (a sandbox, or a block device in it, fails), ``warning`` (it works, but not as asked, or not for long), ``info`` (worth knowing;
never changes a verdict). ``affects``: ``engine`` findings go away with another engine, QEMU or limit, so ``remediate`` can repair them;
``configuration`` findings need a person; ``host`` findings are about the host as a whole and change no verdict of a runtime.
"""

from __future__ import annotations

import typing as t


class Rule(t.NamedTuple):
    """One kind of finding."""

    id: str
    key: str
    severity: str
    affects: str
    title: str
    why: str
    remedy: str


def _rules(*rows: tuple[str, str, str, str, str, str, str]) -> dict[str, Rule]:
    return {row[1]: Rule(*row) for row in rows}


RULES: dict[str, Rule] = _rules(
    # 0xx: can the host be judged at all?
    (
        "KAIO001",
        "no_kata",
        "info",
        "host",
        "No Kata Containers configuration was found",
        "None of the places that Kata and the container runtimes read holds a Kata configuration, so there is nothing to judge on this host.",
        "Nothing to do, if this host should have no Kata. Otherwise name its containerd configuration with kata_aio_containerd_configs.",
    ),
    (
        "KAIO002",
        "base_missing",
        "error",
        "configuration",
        "The Kata configuration does not exist",
        "A handler names a configuration file that is not there: every sandbox of that handler fails.",
        "Reinstall Kata, or correct the handler's ConfigPath.",
    ),
    (
        "KAIO003",
        "base_unreadable",
        "error",
        "configuration",
        "The Kata configuration could not be read",
        "The file is there, but its content could not be read (permission, input/output error, too large, or a loop of links).",
        "Run with become, or repair the file; the evidence has the kernel's words.",
    ),
    (
        "KAIO004",
        "base_toml_invalid",
        "error",
        "configuration",
        "The Kata configuration is not valid TOML",
        "Both runtimes refuse the whole configuration, so every sandbox of this runtime fails.",
        "Correct the line that the evidence names, or restore the file from a backup. kataops.aio changes nothing in a file that it cannot read.",
    ),
    (
        "KAIO005",
        "qemu_missing",
        "error",
        "engine",
        "The QEMU that the configuration names does not exist",
        "Kata resolves hypervisor.qemu.path at the start of every sandbox; without the file every sandbox fails.",
        "Reinstall Kata's QEMU, or let remediate point the configuration at a QEMU that works.",
    ),
    (
        "KAIO006",
        "qemu_not_executable",
        "error",
        "configuration",
        "The configured QEMU may not be executed",
        "The file lacks the execute permission, lies on a noexec mount, or could not be read.",
        "The evidence says which of them it is: chmod 0755 the file, or mount its file system without noexec.",
    ),
    (
        "KAIO007",
        "qemu_foreign_architecture",
        "error",
        "configuration",
        "The configured QEMU is built for another architecture",
        "The host's kernel cannot execute it.",
        "Install Kata for this host's architecture.",
    ),
    (
        "KAIO008",
        "qemu_timed_out",
        "error",
        "configuration",
        "The configured QEMU does not answer",
        "It was started with -machine none and gave no QMP answer within the time limit; its process group was killed.",
        "Start it by hand with the command in the evidence; raise kata_aio_timeout where the host is only slow.",
    ),
    (
        "KAIO009",
        "qemu_crashed",
        "error",
        "configuration",
        "The configured QEMU ends before it answers",
        "It exited or crashed at its start: a missing shared library, a wrapper that fails, a damaged file.",
        "The evidence has its last words; install what they name, or reinstall Kata's QEMU.",
    ),
    (
        "KAIO010",
        "qemu_not_qemu",
        "error",
        "configuration",
        "The configured path is not a QEMU that speaks QMP",
        "What was started did not greet as QEMU does.",
        "Correct hypervisor.qemu.path.",
    ),
    (
        "KAIO011",
        "engine_unknown",
        "warning",
        "host",
        "Whether the configured engine works could not be found out",
        "The detail says what is not known, and the evidence what was tried. Nothing is assumed.",
        "Where something was not allowed, run as root (become), on the host itself, with a storage folder (kata_aio_storage_path) that can be written. "
        "Otherwise correct what the detail names.",
    ),
    (
        "KAIO012",
        "qemu_killed",
        "error",
        "configuration",
        "The configured QEMU is killed when it is started",
        "A seccomp filter forbids a system call that it needs (SIGSYS), or another process, or the kernel because memory ran out, killed it (SIGKILL).",
        "The detail names the signal. Allow the system call in the filter (a container's, or a wrapper's), or free memory on the host.",
    ),
    (
        "KAIO015",
        "no_kvm",
        "error",
        "host",
        "No sandbox starts on this host: KVM cannot be used",
        "Kata starts QEMU with accel=kvm, which needs /dev/kvm. The engines were judged without a guest, so what is said of block I/O holds: it is what a "
        "sandbox will get once KVM can be used. No verdict and no repair depends on this.",
        "Load kvm_intel or kvm_amd (after a kernel update: reboot), switch on virtualization in the firmware, or nested virtualization for this virtual "
        "machine. In a container, pass /dev/kvm to it.",
    ),
    (
        "KAIO016",
        "excluded",
        "info",
        "configuration",
        "kata_aio_exclude leaves this runtime out",
        "All of its handlers, or its configuration file, match one of the patterns: it is neither judged nor changed.",
        "Nothing to do. Remove the pattern to have it judged.",
    ),
    (
        "KAIO013",
        "qemu_untrusted",
        "warning",
        "configuration",
        "The configured QEMU was not run, because others than root can change it",
        "Kata runs this file as root, so whoever can change it, a folder on the way to it, or what a wrapper runs can become root on this host. It was only"
        " read: whether its engines work is not known.",
        "chown the file and its folders to root and chmod them go-w. Where their owner may act as root on this host, name that user in"
        " kata_aio_trusted_owners.",
    ),
    (
        "KAIO014",
        "untrusted",
        "warning",
        "configuration",
        "Something of Kata's belongs to others than root, so what it names was not followed",
        "A configuration file, a shim or a container runtime's process that others than root control would decide what root runs. It was only looked at:"
        " no file that it names was run or written to.",
        "chown what the detail names to root and chmod it go-w; where its owner may act as root on this host, name that user in kata_aio_trusted_owners."
        " A process of an ordinary user that calls itself containerd is worth asking about.",
    ),
    # 1xx: the engine
    (
        "KAIO101",
        "native_not_compiled",
        "error",
        "engine",
        "aio=native is asked for, but this QEMU was built without libaio",
        "Kata's static QEMU up to release 3.7.0 was built with --disable-linux-aio: every block device that is attached to a sandbox fails. "
        "So it does with any other build without libaio.",
        "remediate takes the cheapest of: another QEMU of this host that has libaio, a prepared tree, a rebuild with --enable-linux-aio. "
        "By hand: use the QEMU of Kata 3.8.0 or newer, or set block_device_aio to threads.",
    ),
    (
        "KAIO102",
        "native_without_direct",
        "error",
        "engine",
        "aio=native is asked for without cache.direct=on",
        "QEMU refuses Linux AIO without O_DIRECT. The Go runtime sends cache.direct only when block_device_cache_set AND block_device_cache_direct "
        "are true; runtime-rs (3.29.0 or newer) needs block_device_cache_direct.",
        "remediate sets the keys together.",
    ),
    (
        "KAIO103",
        "io_uring_not_compiled",
        "error",
        "engine",
        "aio=io_uring is asked for, but this QEMU was built without io_uring",
        "QEMU does not know the value. io_uring is Kata's default, so this also happens where block_device_aio is not set at all.",
        "remediate chooses a QEMU or an engine that works. By hand: set block_device_aio to native (with both cache keys) or threads.",
    ),
    (
        "KAIO104",
        "io_uring_refused",
        "error",
        "engine",
        "aio=io_uring is asked for, but the kernel refuses it",
        "The kernel gives QEMU no ring, and this QEMU (before 9.0, or from 10.2 on) fails on that: kernel.io_uring_disabled (RHEL 9 and 10 switch io_uring "
        "off), a seccomp filter, a limit of locked memory, or a kernel that was built without CONFIG_IO_URING. The detail says which, where the kernel does.",
        "remediate moves the runtime to native. By hand: set block_device_aio to native (with the cache keys) or threads; or, as a security decision of your "
        "own, remove what the detail names.",
    ),
    (
        "KAIO105",
        "io_uring_falls_back",
        "warning",
        "engine",
        "aio=io_uring is asked for, but QEMU silently uses threads",
        "The kernel gives QEMU no ring, and this QEMU (seen on 9.0 to 10.1) accepts that without an error: block I/O works, at the cost of threads. "
        "The detail says why there is no ring, where the kernel does.",
        "remediate moves the runtime to native. By hand: set block_device_aio to native (with the cache keys), or to threads, which is what runs.",
    ),
    (
        "KAIO106",
        "aio_exhausted",
        "error",
        "engine",
        "aio=native is asked for, but fs.aio-max-nr is used up",
        "Every AioContext takes 1024 events of fs.aio-max-nr; the next sandbox's block devices fail (QEMU before 9.0).",
        "remediate raises fs.aio-max-nr, live and persistently.",
    ),
    (
        "KAIO107",
        "aio_falls_back",
        "warning",
        "engine",
        "aio=native is asked for, but QEMU silently uses threads",
        "The kernel refuses an AIO context, as a rule because fs.aio-max-nr is used up (the evidence has the limit), else because a filter forbids "
        "io_setup(2), and this QEMU (9.0 and newer) falls back without an error.",
        "Where the limit is used up, remediate raises fs.aio-max-nr, live and persistently; where it is not, allow io_setup(2) in the filter. Sandboxes that "
        "already fell back stay on threads until they are started again.",
    ),
    (
        "KAIO108",
        "aio_headroom",
        "warning",
        "engine",
        "fs.aio-max-nr leaves too little headroom for more sandboxes",
        "Each sandbox with native block devices takes 1024 events per AioContext (one for the main loop, one for each iothread with disks). "
        "The kernel's default of 65536 carries 64 of them on the whole host.",
        "remediate raises fs.aio-max-nr (kata_aio_max_nr, default 1048576).",
    ),
    (
        "KAIO109",
        "storage_without_direct",
        "error",
        "engine",
        "The storage of block images refuses O_DIRECT",
        "aio=native, and cache.direct with any engine, need O_DIRECT on the file system that holds the images; this one refuses it.",
        "Move the images to a file system with O_DIRECT (xfs, ext4, btrfs, a block device), or use io_uring or threads without cache.direct. "
        "Check that kata_aio_storage_path is the folder that really holds them.",
    ),
    (
        "KAIO110",
        "cache_set_with_files",
        "info",
        "configuration",
        "File-backed volumes will fail with block_device_cache_set = true",
        "With that key the Go runtime always uses QEMU's host_device driver, which refuses regular files. Block devices are not affected. remediate "
        "sets the key where a Go runtime is to use native, which needs it; the plan says so beforehand.",
        "Use block devices (or loop devices) for direct-assigned volumes on this runtime.",
    ),
    (
        "KAIO111",
        "native_with_guest_swap",
        "error",
        "configuration",
        "aio=native and enable_guest_swap exclude each other in the Go runtime",
        "The swap file is attached with the configured engine but always without cache.direct, so native is refused.",
        "Set enable_guest_swap = false, or use io_uring or threads.",
    ),
    (
        "KAIO112",
        "firmware_missing",
        "error",
        "engine",
        "This QEMU does not find its firmware",
        "A QEMU that was moved or replaced looks for bios-256k.bin and the option ROMs in a folder that does not exist here: no sandbox starts.",
        "Put the firmware into a folder of the search path in the evidence, or start QEMU by a wrapper with -L. remediate brings a tree with its own firmware.",
    ),
    (
        "KAIO113",
        "io_uring_rootless",
        "error",
        "engine",
        "io_uring is closed to ordinary users, and this runtime is rootless",
        "With rootless = true QEMU is an ordinary user, whom the kernel refuses a ring here: as a rule kernel.io_uring_disabled = 1, which leaves io_uring to "
        "CAP_SYS_ADMIN and the members of kernel.io_uring_group; else a limit or a filter for such users.",
        "Use native, or threads. With kernel.io_uring_disabled = 1: put the user into the group of kernel.io_uring_group.",
    ),
    (
        "KAIO114",
        "kernel_without_io_uring",
        "error",
        "engine",
        "The kernel is too old for io_uring",
        "io_uring_setup(2) does not exist before Linux 5.1, and this QEMU fails on that.",
        "remediate moves the runtime to native. By hand: native, threads, or a newer kernel.",
    ),
    (
        "KAIO115",
        "invalid_aio",
        "error",
        "configuration",
        "block_device_aio has a value that Kata refuses",
        "Allowed are io_uring, native and threads, in lower case; with anything else the whole configuration is refused.",
        "Correct the value.",
    ),
    (
        "KAIO116",
        "rs_native_impossible",
        "error",
        "engine",
        "This release of runtime-rs cannot use native",
        "runtime-rs 3.21 to 3.28 passes block_device_aio on but never cache.direct on hot-plug, so QEMU always refuses native.",
        "Upgrade Kata to 3.29.0 or newer, or use io_uring or threads (kata_aio_allow_fallback=true lets remediate choose).",
    ),
    (
        "KAIO117",
        "rs_engine_ignored",
        "info",
        "configuration",
        "This release of runtime-rs ignores block_device_aio",
        "runtime-rs up to 3.19 leaves the choice to QEMU (threads); 3.20 always asks for io_uring.",
        "Upgrade Kata to 3.29.0 or newer for a choice of the engine.",
    ),
    (
        "KAIO118",
        "aio_ignored",
        "warning",
        "configuration",
        "This Kata release ignores block_device_aio",
        "The option came with Kata 3.0.0; before it QEMU's own default, threads, is used whatever the base file says.",
        "Upgrade Kata, or take the key out of the file. Never put it into a drop-in there: the Go runtime refuses an unknown key.",
    ),
    (
        "KAIO119",
        "block_devices_limited",
        "info",
        "configuration",
        "disable_block_device_use is true: some block devices do not reach a sandbox of this runtime",
        "It is the value that Kata's Go runtime ships from 3.26.0 on. It keeps the container's root file system, bind-mounted block devices and "
        "direct-assigned volumes from being attached as block devices. It does not keep Kubernetes' volumeDevices away, nor (from 4.0.0) emptyDirs in block "
        "mode: those are attached with the configured engine, so the engine is judged all the same.",
        "Nothing to do, if that is what is wanted. Set disable_block_device_use = false if root file systems and such mounts should be block devices.",
    ),
    (
        "KAIO120",
        "engine_differs",
        "warning",
        "engine",
        "The runtime uses another engine than the policy asks for",
        "kata_aio_engine names an engine for the fleet; nothing fails with the one that this runtime uses, but it is another one.",
        "remediate changes it.",
    ),
    (
        "KAIO121",
        "qemu_lacks_devices",
        "warning",
        "engine",
        "This QEMU lacks devices or objects that Kata needs",
        "Kata's own build is checked for these; a distribution's QEMU often lacks some. Which sandboxes fail depends on what they use.",
        "Use Kata's QEMU, or a tree built by kataops.aio.",
    ),
    (
        "KAIO122",
        "engine_refused",
        "error",
        "engine",
        "QEMU refuses the configured engine here",
        "The engine is compiled in, but opening an image with it, or writing to it, fails on this host; the evidence has QEMU's words.",
        "remediate tries the other QEMUs and strategies in their order. Where QEMU's words name the image or its folder, look there first.",
    ),
    (
        "KAIO123",
        "device_add_refused",
        "error",
        "engine",
        "This QEMU refuses the hot-plug requests of this Kata release",
        "QEMU 9.2 and newer refuse arguments of the wrong type. The Go runtime sent share-rw as a string until 3.13 (every block device), core-id until "
        "3.19 (every hot-plugged vCPU) and num-queues until 3.21 (block devices with block_device_driver virtio-blk): whatever the engine, "
        "the device is not attached.",
        "Upgrade Kata to 3.22.0 or newer, or take a QEMU before 9.2: remediate chooses none that is too new for the release. From 3.20 on "
        "block_device_driver virtio-scsi helps, too.",
    ),
    (
        "KAIO124",
        "fell_back",
        "warning",
        "engine",
        "The runtime was given another engine, because no strategy led to the requested one",
        "kata_aio_allow_fallback let remediate set an engine that works at once. It is not the requested one, so the host does not count as repaired.",
        "remediate tries the strategies again. kata_aio_engine with this engine's name says that it is wanted from now on.",
    ),
    (
        "KAIO125",
        "rs_block_devices_refused",
        "warning",
        "configuration",
        "disable_block_device_use is true: runtime-rs refuses every block device",
        "runtime-rs then drops block_device_driver, and fails with `unsupported driver type` for each block device (a root file system, a volume, a "
        "volumeDevice) before it asks QEMU; a container that has one does not start. No other part of runtime-rs looks at the key. (Read in the source of "
        "3.4.0 to 4.1.0; no engine changes it.)",
        "Set disable_block_device_use = false, which runtime-rs ships. Where this runtime's pods have no block devices at all, nothing is lost: leave it out "
        "with kata_aio_exclude.",
    ),
    (
        "KAIO126",
        "rootless_block_devices",
        "warning",
        "configuration",
        "rootless is true: QEMU may not be allowed to open block devices",
        "A rootless QEMU runs as an ordinary user that Kata makes for each sandbox. Block devices belong to root (mode 0660 as a rule), so QEMU cannot open "
        "them, whatever the engine (kata-containers #2605). What was proved here was proved as root.",
        "Set rootless = false for sandboxes with block devices, or let a udev rule give the devices to a group that QEMU's user is in.",
    ),
    (
        "KAIO127",
        "limit_not_persistent",
        "warning",
        "engine",
        "fs.aio-max-nr is high enough now, but not after the next boot",
        "The live value was set by hand or by a program, and the sysctl files set less or nothing. After a reboot the sandboxes that need native may fail, or "
        "fall back to threads.",
        "remediate writes the limit to a sysctl file. Where a program sets it at every boot (tuned, a DaemonSet), nothing is lost by that.",
    ),
)

# 2xx: what already breaks Kata's configuration; the keys are the problem codes of _kata_toml and _discover
RULES.update(
    _rules(
        (
            "KAIO201",
            "base_not_regular",
            "error",
            "configuration",
            "The Kata configuration is not a regular file",
            "Runtimes refuse a folder, a socket or a device; a FIFO hangs the Go runtime indefinitely.",
            "Put the regular file back.",
        ),
        (
            "KAIO202",
            "base_empty",
            "error",
            "configuration",
            "The Kata configuration has no hypervisor table",
            "Without one there is no kernel and no image, and every sandbox fails.",
            "Put the shipped file back; a drop-in cannot stand for the base file.",
        ),
        (
            "KAIO203",
            "several_hypervisors",
            "error",
            "configuration",
            "The Kata configuration has several hypervisor tables",
            "The Go runtime walks them in random order and the last one wins, so sandboxes start with one hypervisor or the other.",
            "Leave one [hypervisor.NAME] table in the file.",
        ),
        (
            "KAIO204",
            "unknown_hypervisor",
            "error",
            "configuration",
            "The Kata configuration names a hypervisor that Kata does not know",
            "The runtime refuses the whole configuration (the Go runtime: `invalid hypervisor section`, before 3.3.0 `VM memory cannot be zero`), so every "
            "sandbox fails.",
            "Correct the table's name: [hypervisor.qemu], in lower case.",
        ),
        (
            "KAIO205",
            "hypervisor_not_selected",
            "error",
            "configuration",
            "runtime.hypervisor_name is missing or names no table of the configuration",
            "runtime-rs then has no hypervisor to start.",
            "Make runtime.hypervisor_name and the [hypervisor.NAME] table agree.",
        ),
        (
            "KAIO207",
            "key_other_case",
            "warning",
            "configuration",
            "A key of the base file is written in another letter case",
            "The Go runtime obeys it in any letter case; runtime-rs and drop-ins know only the lower case.",
            "Write the key in lower case.",
        ),
        (
            "KAIO208",
            "key_spelled_twice",
            "error",
            "configuration",
            "A key stands twice, in different letter cases",
            "The Go runtime picks one of them at random, again for every sandbox.",
            "Leave one of them, in lower case.",
        ),
        (
            "KAIO209",
            "key_in_wrong_section",
            "warning",
            "configuration",
            "A block device key stands outside the hypervisor table",
            "It is silently ignored there; a key appended at the end of the file lands in the last table.",
            "Move it into [hypervisor.qemu].",
        ),
        (
            "KAIO210",
            "wrong_type",
            "error",
            "configuration",
            "A value has the wrong type",
            "The runtimes refuse the whole configuration.",
            "Give the value the type that the detail names.",
        ),
        (
            "KAIO211",
            "path_not_absolute",
            "error",
            "configuration",
            "hypervisor.path is not an absolute path",
            "TDX configurations up to 3.20 ship a placeholder that the installer has to fill in.",
            "Set path to the QEMU that this runtime is for.",
        ),
        (
            "KAIO212",
            "config_dir_not_a_folder",
            "error",
            "configuration",
            "config.d is not a folder",
            "The runtimes refuse the whole configuration.",
            "Remove it, or make it a folder.",
        ),
        (
            "KAIO213",
            "config_dir_unreadable",
            "warning",
            "configuration",
            "config.d could not be read",
            "Its drop-ins are therefore not known here.",
            "Run as root (become).",
        ),
        (
            "KAIO214",
            "config_dir_dangling",
            "warning",
            "configuration",
            "config.d is a dangling symlink",
            "It is ignored, so the drop-ins that it was meant to reach do not count.",
            "Repair or remove the link.",
        ),
        (
            "KAIO215",
            "drop_in_directory",
            "error",
            "configuration",
            "There is a folder inside config.d",
            "Both runtimes refuse the whole configuration: every new sandbox fails.",
            "Move the folder out of config.d.",
        ),
        (
            "KAIO216",
            "drop_in_fifo",
            "error",
            "configuration",
            "There is a FIFO inside config.d",
            "The Go runtime waits for it indefinitely; runtime-rs refuses the configuration.",
            "Remove it.",
        ),
        (
            "KAIO217",
            "drop_in_not_regular",
            "error",
            "configuration",
            "There is a socket or device inside config.d",
            "Both runtimes refuse the whole configuration.",
            "Remove it.",
        ),
        (
            "KAIO218",
            "drop_in_symlink",
            "error",
            "configuration",
            "There is a symlink inside config.d",
            "runtime-rs refuses the whole configuration, even where the link leads to a good file.",
            "Replace the link by the file itself.",
        ),
        (
            "KAIO219",
            "drop_in_dangling",
            "error",
            "configuration",
            "There is a dangling symlink inside config.d",
            "Both runtimes refuse the whole configuration.",
            "Remove the link.",
        ),
        (
            "KAIO220",
            "drop_in_unreadable",
            "warning",
            "configuration",
            "A drop-in could not be read",
            "What it sets is therefore not known here.",
            "Run as root (become).",
        ),
        (
            "KAIO221",
            "drop_in_toml_invalid",
            "error",
            "configuration",
            "A file inside config.d is not valid TOML",
            "Both runtimes read every file there, whatever its name, and refuse the whole configuration: every new sandbox fails.",
            "Move the file out of config.d, or correct it.",
        ),
        (
            "KAIO222",
            "drop_in_stray_name",
            "warning",
            "configuration",
            "A file inside config.d does not look like a drop-in, but is one",
            "There is no suffix filter: backups and editor leftovers are read and applied, in the order of their names.",
            "Move it out of config.d.",
        ),
        (
            "KAIO223",
            "unknown_key_in_drop_in",
            "error",
            "configuration",
            "A drop-in has a key that no Go runtime knows",
            "An unknown key in a drop-in makes the Go runtime refuse the whole configuration (in the base file it is ignored).",
            "Correct or remove the key.",
        ),
        (
            "KAIO224",
            "key_not_in_release",
            "error",
            "configuration",
            "A drop-in has a key that this Kata release does not know",
            "The Go runtime refuses the whole configuration.",
            "Remove the key, or move to a release that has it.",
        ),
        (
            "KAIO225",
            "unknown_section",
            "info",
            "configuration",
            "A table is not known to the runtime",
            "It is ignored.",
            "Correct the table name if it was meant to count.",
        ),
        (
            "KAIO226",
            "section_other_case",
            "warning",
            "configuration",
            "A table name is written in another letter case",
            "The table is silently ignored.",
            "Write it as [hypervisor.qemu].",
        ),
        (
            "KAIO227",
            "second_hypervisor",
            "error",
            "configuration",
            "A drop-in names a hypervisor that its base file does not have",
            "Under the Go runtime it adds a second hypervisor, and one of the two is taken at random. Where several base files share one config.d, "
            "a drop-in for QEMU does this to all the others.",
            "Give each base file a folder of its own, or edit the base file instead of using a drop-in.",
        ),
        (
            "KAIO228",
            "drop_ins_unsupported",
            "warning",
            "configuration",
            "This release does not read config.d",
            "Drop-ins came with Kata 2.5.0; the ones that lie there do not count.",
            "Upgrade Kata.",
        ),
        (
            "KAIO230",
            "kata_conf_file_rejected",
            "error",
            "configuration",
            "Kata refuses this KATA_CONF_FILE",
            "From 4.0.0 both runtimes accept it only where it resolves to one of the default configuration files.",
            "Make the default configuration.toml a symlink to the file, or name the file with ConfigPath in the handler.",
        ),
        (
            "KAIO231",
            "conf_file_unknown",
            "warning",
            "configuration",
            "A shim wrapper sets KATA_CONF_FILE in a way that only a shell can tell",
            "Which configuration this handler uses is therefore not known.",
            "Write a plain absolute path into the wrapper, or name it with ConfigPath in the handler.",
        ),
        (
            "KAIO232",
            "shim_missing",
            "error",
            "configuration",
            "The shim of a handler does not exist",
            "No sandbox of that handler can start, so its configuration is of no use as it stands.",
            "Reinstall Kata, or remove the handler.",
        ),
        (
            "KAIO233",
            "shims_differ",
            "warning",
            "configuration",
            "Handlers that share a configuration have shims of different releases",
            "One file cannot suit both releases where their rules differ.",
            "Bring the shims to one release, or give each its own configuration.",
        ),
        (
            "KAIO234",
            "cri_toml_invalid",
            "warning",
            "configuration",
            "A configuration file of the container runtime is not valid TOML",
            "Handlers that it defines are not known here, and the container runtime itself may not start again.",
            "Correct the file.",
        ),
        (
            "KAIO235",
            "cri_template",
            "info",
            "configuration",
            "A template of the container runtime was read without its template lines",
            "What the template lines would add is not known here.",
            "Nothing to do, where the rendered file lies beside it.",
        ),
        (
            "KAIO236",
            "cri_unreadable",
            "warning",
            "configuration",
            "A configuration file of the container runtime could not be read",
            "Handlers that it defines are not known here.",
            "Run as root (become).",
        ),
        (
            "KAIO237",
            "limits",
            "warning",
            "configuration",
            "The host has more configuration than is looked at",
            "Some runtimes may be missing from this audit.",
            "Remove configuration that is not used.",
        ),
        (
            "KAIO238",
            "refused",
            "error",
            "configuration",
            "Kata refuses this configuration",
            "What was found in it does no harm in every release, but this one refuses the whole configuration for it: every new sandbox fails.",
            "Correct what the other findings about this configuration name.",
        ),
        (
            "KAIO239",
            "invalid_value",
            "error",
            "configuration",
            "A value is none that this release of the runtime takes",
            "The runtime checks its values after it has read the files, and refuses the whole configuration.",
            "Give the key a value that the detail names.",
        ),
        (
            "KAIO240",
            "unknown_key",
            "error",
            "configuration",
            "A table has a key that runtime-rs refuses",
            "From 3.29.0 on runtime-rs refuses keys that it does not know in [agent.NAME], mem_agent, factory and the like, and with them the configuration.",
            "Correct or remove the key; a key of the Go runtime has another name there.",
        ),
        (
            "KAIO241",
            "incomplete_hypervisor",
            "error",
            "configuration",
            "A hypervisor's table is incomplete",
            "runtime-rs checks every [hypervisor.NAME] table of the base file and its drop-ins, selected or not, and refuses the whole configuration.",
            "Complete the table, or remove it; a drop-in in a config.d that several base files share may have brought it.",
        ),
        (
            "KAIO242",
            "file_missing",
            "error",
            "configuration",
            "A file that the Kata configuration names does not exist",
            "Both runtimes resolve the paths of kernel, image, initrd, firmware and the like at the start of every sandbox, and refuse the configuration.",
            "Reinstall Kata, or correct the path.",
        ),
        (
            "KAIO243",
            "configuration_unknown",
            "warning",
            "configuration",
            "What Kata makes of its configuration cannot be told",
            "A file could not be read, or Kata's release is not known or newer than our tables, so nothing is claimed of the values.",
            "The detail has the reason and the file.",
        ),
    )
)

# 3xx: running sandboxes; 4xx: how long a change lives
RULES.update(
    _rules(
        (
            "KAIO301",
            "sandboxes_fell_back",
            "warning",
            "sandboxes",
            "Running sandboxes use threads although another engine is configured",
            "Their QEMU holds block devices but neither a Linux AIO context nor an io_uring ring: QEMU fell back, or they started before the last change.",
            "They stay as they are until they end; new sandboxes use what works. Repair the engine first, then restart the workloads in your own time.",
        ),
        (
            "KAIO302",
            "sandboxes_old_binary",
            "info",
            "sandboxes",
            "Running sandboxes use a QEMU that has been deleted or replaced",
            "They run on undisturbed; only new sandboxes use the new binary.",
            "Nothing to do; restart the workloads in your own time.",
        ),
        (
            "KAIO401",
            "old_qemu_pinned",
            "warning",
            "configuration",
            "The configuration pins a QEMU that was chosen for an earlier Kata release",
            "Kata was upgraded after kataops.aio had pointed path at another QEMU; the new shim and guest kernel may expect the new release's own QEMU.",
            "Run rollback on the host, then remediate: the release's own QEMU is used again where it works. docs/persistence.md says what an upgrade keeps.",
        ),
    )
)


def by_id() -> list[Rule]:
    """All rules in the order of their numbers."""
    return sorted(RULES.values(), key=lambda rule: rule.id)

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue of findings, as data. PRIVATE to kataops.aio.

A rule says what a finding means and what to do; when it applies is decided in ``_assess.py``. ``docs/rules.md`` is generated from this file
(``python tests/contract/rule_reference.py``), so a rule is written once.

``severity``: ``error`` (a sandbox, or a block device in it, fails), ``warning`` (it works, but not as asked, or not for long), ``info`` (worth knowing;
never changes a verdict). ``affects``: ``engine`` findings go away with another engine, QEMU or limit, so ``remediate`` can repair them;
``configuration`` findings need a person.
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
        "configuration_missing",
        "error",
        "configuration",
        "The Kata configuration does not exist",
        "A handler names a configuration file that is not there: every sandbox of that handler fails.",
        "Reinstall Kata, or correct the handler's ConfigPath.",
    ),
    (
        "KAIO003",
        "configuration_unreadable",
        "error",
        "configuration",
        "The Kata configuration could not be read",
        "The file is there but its content could not be had (permission, input/output error, too large, or no regular file).",
        "Run with become, or mend the file; the evidence has the kernel's words.",
    ),
    (
        "KAIO004",
        "configuration_invalid",
        "error",
        "configuration",
        "The Kata configuration is not valid TOML",
        "Both runtimes refuse the whole configuration, so every sandbox of this runtime fails.",
        "Correct the line that the evidence names, or take the file back from a backup. kataops.aio changes nothing in a file that it cannot read.",
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
        "The file lacks the execute permission or lies on a noexec mount.",
        "chmod 0755 the file, or mount its file system without noexec.",
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
        "It exited or was killed by a signal at its start: a missing shared library, a wrapper that fails, or a seccomp filter (SIGSYS).",
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
        "The evidence says what was tried. Nothing is assumed.",
        "Run as root (become), on the host itself, with a storage folder that can be written.",
    ),
    # 1xx: the engine
    (
        "KAIO101",
        "native_not_compiled",
        "error",
        "engine",
        "aio=native is asked for, but this QEMU was built without libaio",
        "Kata's static QEMU up to release 3.7.0 was built with --disable-linux-aio: every block device that is attached to a sandbox fails (F1).",
        "remediate takes the cheapest of: another QEMU of this host that has libaio, a prepared tree, a rebuild with --enable-linux-aio. "
        "By hand: upgrade Kata to 3.8.0 or newer, or set block_device_aio to threads.",
    ),
    (
        "KAIO102",
        "native_without_direct",
        "error",
        "engine",
        "aio=native is asked for without cache.direct=on",
        "QEMU refuses Linux AIO without O_DIRECT (F2). The Go runtime sends cache.direct only when block_device_cache_set AND block_device_cache_direct "
        "are true; runtime-rs (3.29.0 or newer) needs block_device_cache_direct.",
        "remediate sets the keys together.",
    ),
    (
        "KAIO103",
        "io_uring_not_compiled",
        "error",
        "engine",
        "aio=io_uring is asked for, but this QEMU was built without io_uring",
        "QEMU does not know the value (F3). io_uring is Kata's default, so this also happens where block_device_aio is not set at all.",
        "remediate chooses a QEMU or an engine that works. By hand: set block_device_aio to native (with both cache keys) or threads.",
    ),
    (
        "KAIO104",
        "io_uring_refused",
        "error",
        "engine",
        "aio=io_uring is asked for, but the kernel refuses it",
        "kernel.io_uring_disabled or a seccomp filter forbids io_uring (RHEL 9 and 10 switch it off), and this QEMU fails on that (F4a before 9.0, F4c from 10.2).",
        "remediate moves the runtime to native. By hand: block_device_aio to native or threads; or, as a security decision of your own, "
        "kernel.io_uring_disabled=0.",
    ),
    (
        "KAIO105",
        "io_uring_falls_back",
        "warning",
        "engine",
        "aio=io_uring is asked for, but QEMU silently uses threads",
        "The kernel refuses io_uring and this QEMU accepts that without an error (F4b, seen on QEMU 9.0 to 10.1): block I/O works, at the cost of threads.",
        "remediate moves the runtime to native.",
    ),
    (
        "KAIO106",
        "aio_exhausted",
        "error",
        "engine",
        "aio=native is asked for, but fs.aio-max-nr is used up",
        "Every AioContext takes 1024 events of fs.aio-max-nr; the next sandbox's block devices fail (F5, QEMU before 9.0).",
        "remediate raises fs.aio-max-nr, live and persistently.",
    ),
    (
        "KAIO107",
        "aio_falls_back",
        "warning",
        "engine",
        "aio=native is asked for, but QEMU silently uses threads",
        "fs.aio-max-nr is used up and this QEMU falls back without an error (F5, QEMU 9.0 and newer).",
        "remediate raises fs.aio-max-nr, live and persistently. Sandboxes that already fell back stay on threads until they are started anew.",
    ),
    (
        "KAIO108",
        "aio_headroom",
        "warning",
        "engine",
        "fs.aio-max-nr leaves too little head-room for more sandboxes",
        "Each sandbox with native block devices takes 1024 events per AioContext (one for the main loop, one for each iothread with disks). "
        "The kernel's default of 65536 carries 64 of them on the whole host.",
        "remediate raises fs.aio-max-nr (kata_aio_max_nr, default 1048576).",
    ),
    (
        "KAIO109",
        "storage_without_direct",
        "error",
        "storage",
        "The storage of block images refuses O_DIRECT",
        "aio=native needs O_DIRECT on the file system that holds the images; this one refuses it.",
        "Move the images to a file system with O_DIRECT (xfs, ext4, btrfs, a block device), or use io_uring without cache.direct. "
        "Check that kata_aio_storage_path is the folder that really holds them.",
    ),
    (
        "KAIO110",
        "cache_set_with_files",
        "info",
        "configuration",
        "File-backed volumes will fail with block_device_cache_set = true",
        "With that key the Go runtime always uses QEMU's host_device driver, which refuses regular files (F6). Block devices are not affected.",
        "Use block devices (or loop devices) for direct-assigned volumes on this runtime.",
    ),
    (
        "KAIO111",
        "native_with_guest_swap",
        "error",
        "configuration",
        "aio=native and enable_guest_swap exclude each other in the Go runtime",
        "The swap file is attached with the configured engine but always without cache.direct, so native is refused (F7).",
        "Set enable_guest_swap = false, or use io_uring or threads.",
    ),
    (
        "KAIO112",
        "firmware_missing",
        "error",
        "engine",
        "This QEMU does not find its firmware",
        "A QEMU that was moved or replaced looks for bios-256k.bin and the option ROMs in a folder that does not exist here: no sandbox starts (F8).",
        "Put the firmware into a folder of the search path in the evidence, or start QEMU by a wrapper with -L. remediate brings a tree with its own firmware.",
    ),
    (
        "KAIO113",
        "io_uring_rootless",
        "error",
        "engine",
        "io_uring is closed to ordinary users, and this runtime is rootless",
        "kernel.io_uring_disabled = 1 leaves io_uring to CAP_SYS_ADMIN and the members of kernel.io_uring_group; with rootless = true QEMU is neither.",
        "Put the user into the group of kernel.io_uring_group, or use native.",
    ),
    (
        "KAIO114",
        "kernel_without_io_uring",
        "error",
        "engine",
        "The kernel is too old for io_uring",
        "io_uring_setup(2) does not exist before Linux 5.1.",
        "Use native, or a newer kernel.",
    ),
    (
        "KAIO115",
        "engine_invalid",
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
        "Upgrade Kata to 3.29.0 or newer, or use io_uring or threads (kata_aio_fall_back=true lets remediate choose).",
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
        "engine_key_unknown",
        "error",
        "configuration",
        "This Kata release does not know block_device_aio",
        "The option came with Kata 3.0.0. In the base file it is ignored; in a drop-in it makes the Go runtime refuse the whole configuration.",
        "Upgrade Kata; remove the key from drop-ins.",
    ),
    (
        "KAIO119",
        "block_devices_unused",
        "info",
        "configuration",
        "disable_block_device_use is true: no block device reaches a sandbox of this runtime",
        "The engine then has nothing to do for container storage.",
        "Set disable_block_device_use = false if volumes and root file systems should be block devices.",
    ),
    (
        "KAIO120",
        "engine_differs",
        "warning",
        "engine",
        "The runtime uses another engine than the policy asks for",
        "kata_aio_engine names an engine for the fleet; this runtime works, with another one.",
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
        "The engine is compiled in, but opening an image with it fails on this host; the evidence has QEMU's words.",
        "remediate tries the other QEMUs and roads in their order.",
    ),
)

# 2xx: what already breaks Kata's configuration; the keys are the problem codes of _kata_toml and _discover
@@2@@
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
            "change_will_be_lost",
            "info",
            "configuration",
            "kata-deploy may take this runtime's settings back",
            "How long a change lives depends on the kata-deploy release: see the table in docs/survival.md.",
            "Run audit after each kata-deploy rollout; remediate restores the settings in one step.",
        ),
        (
            "KAIO402",
            "old_qemu_pinned",
            "warning",
            "configuration",
            "The configuration pins a QEMU older than the one this Kata release ships",
            "A tree of kataops.aio stayed in use across a Kata upgrade; a new guest kernel or shim may expect a newer QEMU.",
            "Run remediate: the release's own QEMU is used again where it works; otherwise build one of its version.",
        ),
    )
)


def by_id() -> list[Rule]:
    """All rules in the order of their numbers."""
    return sorted(RULES.values(), key=lambda rule: rule.id)

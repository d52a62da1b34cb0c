# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's side of asynchronous block I/O: limits, switches, and what the system calls really answer. PRIVATE to kataops.aio.

Linux AIO is limited by ``fs.aio-max-nr`` (events, the whole machine's); QEMU asks for 1024 events per AioContext (one for the main loop, one for each
iothread that does I/O). io_uring is switched by ``kernel.io_uring_disabled`` (Linux 6.6 and newer, and RHEL 9.3 and newer): 0 everyone, 1 only
CAP_SYS_ADMIN and the members of ``kernel.io_uring_group``, 2 nobody. A seccomp filter may refuse either call whatever the sysctls say, so both calls
are really made here, and released at once.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
from collections import namedtuple

from ansible_collections.kataops.aio.plugins.module_utils._host.files import read_head
from ansible_collections.kataops.aio.plugins.module_utils._host.in_child import in_child
from ansible_collections.kataops.aio.plugins.module_utils._host.storage import observe_storage
from ansible_collections.kataops.aio.plugins.module_utils._host.sysctl import boot_settings

__all__ = ("EVENTS_PER_CONTEXT", "observe_kernel", "observe_storage")

EVENTS_PER_CONTEXT = 1024  # what QEMU asks of io_setup(2) for one AioContext (MAX_EVENTS of its block/linux-aio.c)
ORDINARY_USER = 65534  # "nobody": as good as any user without privileges, and needs no account

# io_setup by machine; the kernel's own syscall tables. 64-bit only, as Kata's hosts are.
_IO_SETUP = {"x86_64": 206, "aarch64": 0, "riscv64": 0, "ppc64le": 227, "s390x": 243}
_IO_URING_SETUP = 425  # the same number on every architecture above
_IO_URING_PARAMS_BYTES = 120  # sizeof(struct io_uring_params)

_AIO_NR = "/proc/sys/fs/aio-nr"
_AIO_MAX_NR = "/proc/sys/fs/aio-max-nr"
_URING_DISABLED = "/proc/sys/kernel/io_uring_disabled"
_KVM = "/dev/kvm"
_KVM_GET_API_VERSION = 0x2000AE00 if platform.machine().startswith("ppc") else 0xAE00  # _IO(KVMIO, 0x00) of linux/kvm.h
_URING_GROUP = "/proc/sys/kernel/io_uring_group"


def observe_kernel(user_probe=True):
    """The contract ``kernel`` of docs/architecture.md.

    :arg user_probe: also make both calls as an ordinary user (in a child that drops its privileges), which is how a rootless QEMU would make them.
    """
    max_nr, number = read_number(_AIO_MAX_NR), read_number(_AIO_NR)
    free = max(0, max_nr.value - number.value) if max_nr.value is not None and number.value is not None else None
    # The last context that a starting sandbox could get is not taken from it, not even for a moment.
    events = 1 if free is not None and EVENTS_PER_CONTEXT <= free < 2 * EVENTS_PER_CONTEXT else EVENTS_PER_CONTEXT
    own, as_user = _calls_of_both(events, user_probe)
    return {
        "release": platform.release(),
        "kvm": _kvm(),
        "aio": _aio(max_nr, number, free, own["io_setup"], as_user["io_setup"]),
        "io_uring": _io_uring(own["io_uring_setup"], as_user["io_uring_setup"]),
    }


def _kvm():
    """Whether KVM can be used, as QEMU finds it: by opening /dev/kvm and asking for its API version (12 since Linux 2.6.22)."""
    evidence = [{"asked": "open %s" % _KVM, "answered": "success", "by": "syscall"}]
    try:
        descriptor = os.open(_KVM, os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        evidence[0]["answered"] = "%s (%s)" % (errno.errorcode.get(error.errno, error.errno), error.strerror)
        # An ordinary user may well be refused what root is not
        usable = None if error.errno in (errno.EACCES, errno.EPERM) and os.geteuid() != 0 else False
        return {"usable": usable, "reason": "%s: %s." % (_KVM, error.strerror), "evidence": evidence}
    try:
        version = fcntl.ioctl(descriptor, _KVM_GET_API_VERSION, 0)
    except OSError as error:
        return {"usable": False, "reason": "%s does not answer as KVM does: %s." % (_KVM, error.strerror), "evidence": evidence}
    finally:
        os.close(descriptor)
    evidence.append({"asked": "KVM_GET_API_VERSION", "answered": str(version), "by": "syscall"})
    return {"usable": True, "reason": None, "evidence": evidence}


def _aio(max_nr, number, free, io_setup, io_setup_user):
    reason = max_nr.reason or number.reason
    if not os.path.exists(_AIO_MAX_NR):
        reason = "%s is missing: this kernel was built without Linux AIO (CONFIG_AIO), or /proc is not mounted." % _AIO_MAX_NR
    return {
        "max_nr": max_nr.value,
        "nr": number.value,
        "free": free,
        "contexts_free": None if free is None else free // EVENTS_PER_CONTEXT,
        "io_setup": io_setup,
        "io_setup_user": io_setup_user,
        "boot": boot_settings("fs.aio-max-nr"),
        "reason": reason,
        "evidence": max_nr.evidence + number.evidence,
    }


def _io_uring(own_setup, setup_user):
    disabled, group = read_number(_URING_DISABLED), read_number(_URING_GROUP)
    reason = disabled.reason
    if not os.path.exists(_URING_DISABLED):
        reason = "%s is missing: this kernel has no such switch (Linux 6.6 and RHEL 9.3 brought it); the system call decides." % _URING_DISABLED
    setup_root = own_setup if os.geteuid() == 0 else _unknown("Not root: io_uring_setup(2) could not be tried as root. Use become.")
    return {
        "disabled": disabled.value,
        "group": group.value,
        "setup_root": setup_root,
        "setup_user": setup_user,
        "boot": boot_settings("kernel.io_uring_disabled"),
        "reason": reason,
        "evidence": disabled.evidence + group.evidence,
    }


def free_contexts():
    """How many AIO contexts of QEMU's size fit under fs.aio-max-nr now, None where the kernel does not tell."""
    limit, used = read_number(_AIO_MAX_NR).value, read_number(_AIO_NR).value
    return None if None in (limit, used) else max(limit - used, 0) // EVENTS_PER_CONTEXT


Number = namedtuple("Number", ("value", "reason", "evidence"))


def read_number(path):
    """The :class:`Number` in a sysctl file: an integer, or None with a reason. Never raises."""
    try:
        raw = read_head(path, 256)
    except OSError as error:
        return Number(None, "%s: %s." % (path, error.strerror), [])
    number = parse_number(raw)
    text = raw.decode("ascii", "backslashreplace").strip()
    evidence = [{"asked": path, "answered": text, "by": "file"}]
    if number is None:
        return Number(None, "%s holds no number but %r." % (path, text), evidence)
    return Number(number, None, evidence)


def parse_number(raw):
    """The integer in the bytes of a sysctl file, else None."""
    raw = raw.strip()
    digits = raw[1:] if raw[:1] == b"-" else raw
    if not digits or len(digits) > 20 or not digits.isdigit():
        return None
    return int(raw)


# --- the system calls ---


def _io_setup(events):
    asked = "io_setup(%d)" % events
    call, reason = _io_setup_number()
    if call is None:
        return _unknown(reason)
    context = ctypes.c_ulong(0)
    result, number = _syscall(call, ctypes.c_uint(events), ctypes.byref(context))
    return _answer(asked, result, number)


def _io_uring_setup():
    call, reason = _io_setup_number()
    if call is None:
        return _unknown(reason)
    parameters = ctypes.create_string_buffer(_IO_URING_PARAMS_BYTES)
    result, number = _syscall(_IO_URING_SETUP, ctypes.c_uint(1), parameters)
    if result >= 0:
        os.close(result)
    return _answer("io_uring_setup(1)", result, number)


def _io_setup_number():
    machine = platform.machine()
    if ctypes.sizeof(ctypes.c_void_p) != 8 or machine not in _IO_SETUP:
        return None, "The system call numbers of %s (%d bit Python) are not known here." % (machine, 8 * ctypes.sizeof(ctypes.c_void_p))
    return _IO_SETUP[machine], None


def _syscall(number, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *arguments)
    return result, ctypes.get_errno()


def _answer(asked, result, number):
    if result >= 0:
        return {"ok": True, "errno": None, "reason": None, "evidence": [{"asked": asked, "answered": "success", "by": "syscall"}]}
    name = errno.errorcode.get(number, str(number))
    words = "%s (%s)" % (name, os.strerror(number))
    return {"ok": False, "errno": name, "reason": "%s: %s." % (asked, words), "evidence": [{"asked": asked, "answered": words, "by": "syscall"}]}


def _unknown(reason):
    return {"ok": None, "errno": None, "reason": reason, "evidence": []}


def _not_asked():
    return _unknown("Not asked for (user_probe is false).")


def _both_calls(events):
    return {"io_setup": _io_setup(events), "io_uring_setup": _io_uring_setup()}


def _calls_of_both(events, user_probe):
    """Both calls as who we are and as an ordinary user: two of ``{io_setup: ..., io_uring_setup: ...}``.

    They are made in one child, which drops its privileges in between. Its end releases what it got, and that is not waited for: to give an AIO context
    back takes the kernel 30 ms.
    """

    def probe():
        answers = {"own": _both_calls(events)}
        if user_probe and os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(ORDINARY_USER, ORDINARY_USER, ORDINARY_USER)
            os.setresuid(ORDINARY_USER, ORDINARY_USER, ORDINARY_USER)
            answers["user"] = _both_calls(events)
        return answers

    answers, reason = in_child(probe)
    if reason is not None:
        unknown = _unknown("The probe in a child: %s" % reason)
        answers = {"own": {"io_setup": unknown, "io_uring_setup": dict(unknown)}}
    if not user_probe:
        return answers["own"], {"io_setup": _not_asked(), "io_uring_setup": _not_asked()}
    user = answers.get("user")
    if user is None:  # we are an ordinary user ourselves, or nothing is known
        return answers["own"], {name: dict(result) for name, result in answers["own"].items()}
    for result in user.values():
        for item in result["evidence"]:
            item["asked"] += " as user %d" % ORDINARY_USER
    return answers["own"], user

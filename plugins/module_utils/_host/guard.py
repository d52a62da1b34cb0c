# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that starts programs for the module, and ends all that they started. PRIVATE to kataops.aio.

The guard is a fork of the module and the parent of every program, so that nothing a program does to its session, group or environment takes it out of
reach: where root may, the guard is process 1 of a process namespace, and the kernel kills everything in it with the guard; elsewhere it is a child
subreaper, which inherits all orphans and kills them. It ends when the module says so, and when the module is gone, however that ended.

What a guard starts has no network (a network namespace of its own), cannot gain privileges (``no_new_privs``), leaves no core file, and gets the
environment :data:`ENVIRONMENT`, as far as the kernel and the module's own permissions allow. See docs/security.md.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import time
import typing as t

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError

#: Nobody's PATH is taken over, not even that of the module: it may name folders that others write.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "LC_ALL": "C", "LANG": "C", "LANGUAGE": "C", "HOME": "/"}

_MAX_MESSAGE = 128 * 1024
_LEFT_SECONDS = 2  # that programs which were told to quit may take
_SWEEP_SECONDS = 10
# include/uapi/linux/prctl.h and sched.h
_PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 36, 38
_CLONE_NEWNET, _CLONE_NEWPID = 0x40000000, 0x20000000
_CREDENTIALS = struct.Struct("3i")
_SO_PASSCRED = getattr(socket, "SO_PASSCRED", 16)
_SCM_CREDENTIALS = getattr(socket, "SCM_CREDENTIALS", 2)

# Guards that were told to end and have not been seen to.
_leaving: list[int] = []


class GuardLost(AioError):
    """The guard was killed, and all that it had started with it."""

    def __init__(self) -> None:
        super().__init__(
            "the process that guards probed programs was killed, and they with it",
            "kataops.aio",
            remedy="see the kernel's log for an out-of-memory kill, then run again",
        )


class Guard:
    """Use as a context manager around everything that starts a program. Costs one fork.

    :arg confine: False: what it starts has the network, and may gain privileges.
    """

    def __init__(self, confine: bool = True) -> None:
        self._confine = confine
        self._pid = 0
        self._lost = False
        self._others: set[int] = set()
        self._socket: socket.socket | None = None
        self._ended: dict[int, int] = {}
        self._numbers: dict[int, int] = {}  # the guard's number of a process by ours

    def __enter__(self) -> Guard:
        _leaving[:] = [pid for pid in _leaving if not _gone(pid)]
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, _SO_PASSCRED, 1)
        libc = ctypes.CDLL(None, use_errno=True)
        self._libc = libc
        before = _own_process_namespace() if os.geteuid() == 0 else None
        # Only where we are let back: else no program could be started any more once the guard is gone.
        apart = before is not None and libc.setns(before, _CLONE_NEWPID) == 0 and libc.unshare(_CLONE_NEWPID) == 0
        self._apart = apart
        if not apart:
            # Should the guard itself be killed, what it started becomes ours.
            libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            self._others = _descendants(os.getpid())
        try:
            self._pid = os.fork()
            if self._pid == 0:
                try:
                    ours.close()
                    _Keeper(theirs, libc, apart, self._confine).work()
                finally:
                    os._exit(0)
        finally:
            if before is not None:
                if apart:
                    libc.setns(before, _CLONE_NEWPID)
                os.close(before)
        theirs.close()
        self._socket = ours
        return self

    def __exit__(self, *unused: t.Any) -> None:
        # Its end kills what is left, and is not waited for before this process ends.
        self._socket.close()
        _leaving.append(self._pid)
        if not self._apart:
            if self._lost:
                end_descendants(_SWEEP_SECONDS, self._others)
            self._libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        self._lost = False

    def start(self, argv: t.Sequence[str], descriptors: t.Sequence[int], environment: dict[str, str] | None = None) -> int:
        """Start a program in a session of its own and return its process id.

        :arg descriptors: its stdin, stdout and stderr, then those that it inherits under their numbers.
        :raises OSError: where the kernel does not run it. :raises GuardLost: where the guard was killed; the next start has another one.
        """
        if self._lost:
            self.__exit__()
            self.__enter__()
        request = {"do": "start", "argv": list(argv), "environment": environment or {}, "inherit": list(descriptors[3:])}
        reply = self._ask(request, descriptors)
        if "errno" in reply:
            raise OSError(reply["errno"], reply["words"], argv[0])
        pid = reply["sender"] if reply["apart"] else reply["pid"]
        self._numbers[pid] = reply["pid"]
        self._ended.pop(reply["pid"], None)
        return pid

    def wait(self, pid: int, deadline: float) -> int | None:
        """The exit status of a program (negative: a signal), or None where it has not ended by ``deadline`` (of time.monotonic)."""
        number = self._numbers[pid]
        while number not in self._ended:
            left = deadline - time.monotonic()
            if not self._readable(max(left, 0)):
                return None
            try:
                self._take()
            except GuardLost:
                return -signal.SIGKILL
        return self._ended[number]

    def end(self, pid: int) -> int:
        """Kill what is left of a program's group, reap it, and return its exit status. Never raises."""
        try:
            return self._ask({"do": "end", "pid": self._numbers.pop(pid)})["status"]
        except GuardLost:
            return -signal.SIGKILL

    def leave(self, pid: int) -> None:
        """Let a program that was told to quit go: it is killed with the rest where it has not ended 2 s after the guard was told to end."""
        with contextlib.suppress(GuardLost):
            self._send({"do": "leave", "pid": self._numbers.pop(pid)})

    def _readable(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(int(seconds * 1000 + 0.999)))

    def _send(self, message: dict[str, t.Any], descriptors: t.Sequence[int] = ()) -> None:
        data = json.dumps(message).encode("ascii")
        if len(data) > _MAX_MESSAGE:
            raise OSError(7, "Argument list too long")
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("%di" % len(descriptors), *descriptors))] if descriptors else []
        try:
            self._socket.sendmsg([data], rights)
        except (BrokenPipeError, ConnectionResetError):
            self._lost = True
            raise GuardLost from None

    def _ask(self, message: dict[str, t.Any], descriptors: t.Sequence[int] = ()) -> dict[str, t.Any]:
        self._send(message, descriptors)
        while True:
            reply = self._take()
            if reply is not None:
                return reply

    def _take(self) -> dict[str, t.Any] | None:
        """The next message, None where it was the news of a program's end."""
        try:
            data, ancillary, _flags, _address = self._socket.recvmsg(_MAX_MESSAGE, socket.CMSG_SPACE(_CREDENTIALS.size))
        except ConnectionResetError:
            data, ancillary = b"", []
        if not data:
            self._lost = True
            raise GuardLost
        message = json.loads(data.decode("ascii"))
        if "ended" in message:
            self._ended[message["ended"]] = message["status"]
            return None
        for level, kind, words in ancillary:
            if level == socket.SOL_SOCKET and kind == _SCM_CREDENTIALS:
                # The kernel turns the process number that was sent into ours.
                message["sender"] = _CREDENTIALS.unpack(words[: _CREDENTIALS.size])[0]
        return message


def _own_process_namespace() -> int | None:
    with contextlib.suppress(OSError):
        return os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    return None


_shared: list[tuple[int, Guard]] = []


def shared() -> Guard:
    """A guard that is entered, the same one each time; it ends with this process. Each guard costs a fork and two namespaces (4 ms of CPU)."""
    if not _shared or _shared[0][0] != os.getpid():
        _shared[:] = [(os.getpid(), Guard().__enter__())]
    return _shared[0][1]


class _Keeper:
    """The guard's own side."""

    def __init__(self, link: socket.socket, libc: t.Any, apart: bool, confine: bool) -> None:
        self._apart = apart
        self._running: set[int] = set()
        self._left: set[int] = set()
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        if not apart:
            libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        if confine:
            libc.unshare(_CLONE_NEWNET)
            libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        # A QEMU that crashes leaves no core file.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # Its own descriptors are out of the way of those that programs inherit under their numbers; of the module's, none stays open: who started the
        # module waits for the end of its output.
        self._high = min(512, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        self._link = socket.socket(fileno=self._up(link.detach()))
        read, write = os.pipe()
        self._news, self._bell = self._up(read), self._up(write)
        for name in os.listdir("/proc/self/fd"):
            if int(name) not in (self._link.fileno(), self._news, self._bell):
                with contextlib.suppress(OSError):
                    os.close(int(name))
        for number in range(3):
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)
        os.set_blocking(self._news, False)
        os.set_blocking(self._bell, False)
        signal.signal(signal.SIGCHLD, lambda *unused: None)
        signal.set_wakeup_fd(self._bell, warn_on_full_buffer=False)

    def _up(self, descriptor: int) -> int:
        high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, self._high)
        os.close(descriptor)
        return high

    def work(self) -> None:
        poll = select.poll()
        poll.register(self._link, select.POLLIN)
        poll.register(self._news, select.POLLIN)
        try:
            while True:
                for number, _event in poll.poll():
                    if number == self._news:
                        with contextlib.suppress(BlockingIOError):
                            os.read(self._news, 4096)
                        self._tell_ends()
                    elif not self._serve():
                        return
        finally:
            self._end_everything()

    def _serve(self) -> bool:
        """Do what the module asks; False where it is done, or gone."""
        space = socket.CMSG_SPACE(64 * 4)
        try:
            data, ancillary, _flags, _address = self._link.recvmsg(_MAX_MESSAGE, space)
        except ConnectionResetError:
            return False
        if not data:
            return False
        received: list[int] = []
        for level, kind, words in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received += [self._up(number) for number in struct.unpack("%di" % (len(words) // 4), words)]
        request = json.loads(data.decode("ascii"))
        if request["do"] == "start":
            self._start(request, received)
        elif request["do"] == "leave":
            self._left.add(request["pid"])
        else:
            self._end(request["pid"])
        return True

    def _start(self, request: dict[str, t.Any], received: list[int]) -> None:
        inherited = request["inherit"]
        try:
            for number, descriptor in zip(inherited, received[3:]):
                os.dup2(descriptor, number)
            # Nothing runs between fork and exec (no preexec_fn): that would cost a copy of Python's page tables for each start, 3 ms against 0.3 ms.
            process = subprocess.Popen(  # pylint: disable=ansible-bad-function  # nosec B603  # callers ask trust.py; run_command has no bounds
                request["argv"],
                stdin=received[0],
                stdout=received[1],
                stderr=received[2],
                cwd="/",
                env=dict(ENVIRONMENT, **request["environment"]),
                pass_fds=inherited,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            self._send({"errno": getattr(error, "errno", None) or 22, "words": getattr(error, "strerror", None) or str(error)})
            return
        finally:
            for number in received + inherited:
                with contextlib.suppress(OSError):
                    os.close(number)
        process.returncode = 0  # reaped here, not by subprocess
        self._running.add(process.pid)
        self._send({"pid": process.pid, "apart": self._apart}, process.pid if self._apart else None)

    def _send(self, message: dict[str, t.Any], process: int | None = None) -> None:
        credentials = []
        if process is not None:
            credentials = [(socket.SOL_SOCKET, _SCM_CREDENTIALS, _CREDENTIALS.pack(process, os.geteuid(), os.getegid()))]
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._link.sendmsg([json.dumps(message).encode("ascii")], credentials)

    def _tell_ends(self) -> None:
        """Tell of programs that ended; they stay unreaped, so that their number is no other's."""
        for pid in sorted(self._running):
            found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is not None:
                self._running.discard(pid)
                self._send({"ended": pid, "status": found.si_status if found.si_code == os.CLD_EXITED else -found.si_status})

    def _end(self, pid: int) -> None:
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
        self._running.discard(pid)
        status = os.waitpid(pid, 0)[1]
        self._send({"pid": pid, "status": -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)})

    def _end_everything(self) -> None:
        deadline = time.monotonic() + _LEFT_SECONDS
        for pid in self._left:
            while time.monotonic() < deadline and not _gone(pid):
                time.sleep(0.002)
        if not self._apart:
            end_descendants(_SWEEP_SECONDS)


def end_descendants(seconds: float, keep: t.Iterable[int] = ()) -> bool:
    """Kill and reap every descendant of this process, which is a subreaper, but those to keep; whether none is left.

    All are stopped before any is killed, so that none can start another meanwhile.
    """
    deadline = time.monotonic() + seconds
    keep = set(keep)
    while True:
        if not keep:
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                return True
        elif not _descendants(os.getpid()) - keep:
            return True
        stopped: set[int] = set()
        while time.monotonic() < deadline:
            found = _descendants(os.getpid()) - stopped - keep
            if not found:
                break
            _signal(found, signal.SIGSTOP)
            stopped |= found
        _signal(stopped, signal.SIGKILL)
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.002)


def _signal(pids: t.Iterable[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, number)


def _descendants(ancestor: int) -> set[int]:
    """The living processes below a process, by proc(5)."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name, "rb") as stream:
                    fields = stream.read(4096).rpartition(b")")[2].split()
            except OSError:
                continue
            if len(fields) > 1 and fields[0] not in (b"Z", b"X"):
                children.setdefault(int(fields[1]), []).append(int(name))
            elif len(fields) > 1:
                children.setdefault(int(fields[1]), [])
    found: set[int] = set()
    todo = list(children.get(ancestor, ()))
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo += children.get(pid, ())
    return found


def _gone(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True


@atexit.register
def _reap() -> None:
    """End the shared guard, and wait for the guards' ends: everything that they started is gone then."""
    while _shared:
        owner, guard = _shared.pop()
        if owner == os.getpid():
            guard.__exit__()
    while _leaving:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(_leaving.pop(), 0)

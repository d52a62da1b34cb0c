# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Child processes that never outlive their time limit nor the module. PRIVATE to kataops.aio.

Each child leads a session of its own and is killed with its whole group. A :class:`Guard` kills the groups, and whatever else has the run's mark in its
environment, when the module dies or had to use force. Nothing runs between fork and exec (no ``preexec_fn``), since that would cost a copy of Python's
page tables for each start: 3 ms against 0.3 ms.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import resource
import select
import signal
import subprocess
import time

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError

# What a child may print on stdout in all; a full QEMU answers everything that is asked here in well under 1 MB.
MAX_OUTPUT = 32 * 1024 * 1024
MAX_WORDS = 64 * 1024
_MARK = "KATAOPS_AIO_RUN"


# Children that have ended but for the kernel's work on them.
_leaving = []


class OutputTooLong(AioError):
    """The child printed more than :data:`MAX_OUTPUT` bytes."""


class Guard:
    """A process that kills the children, and theirs, which the module left behind by dying.

    Use as a context manager around everything that starts a :class:`Child`. It costs one fork; it sleeps in ``read(2)``.

    :ivar mark: what the environment of every child has, so that none is missed: not one that was just being started, nor one that left its group.
    """

    def __init__(self):
        self._pid = None
        self._write = None
        self._force = False
        self.mark = None

    def __enter__(self):
        self._force = False
        _leaving[:] = [process for process in _leaving if process.poll() is None]
        self.mark = os.urandom(16).hex()
        read, self._write = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.close(self._write)
                _guard(read, ("%s=%s" % (_MARK, self.mark)).encode("ascii"))
            finally:
                os._exit(0)
        os.close(read)
        return self

    def __exit__(self, *unused):
        with contextlib.suppress(BrokenPipeError):
            if not self._force:
                os.write(self._write, b"done\n")
        os.close(self._write)
        os.waitpid(self._pid, 0)

    def environment(self):
        return dict(os.environ, LANG="C", LC_ALL="C", **{_MARK: self.mark})

    def watch(self, group):
        os.write(self._write, b"+%d\n" % group)

    def forget(self, group):
        with contextlib.suppress(BrokenPipeError):
            os.write(self._write, b"-%d\n" % group)

    def use_force(self):
        """A child had to be killed: look for what it may have started, at the end."""
        self._force = True


def _guard(read, mark):
    """Collect the names of groups until the module says that it is done, or is gone; then kill what is left."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    # The module's stdout must not be held open: who started the module waits for its end of file.
    os.dup2(read, 0)
    os.closerange(1, max(256, read + 1))
    groups = set()
    rest = b""
    while True:
        data = os.read(0, 4096)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line == b"done":
                return
            (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))
    for group in groups:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)
    # A child that was being forked when the module died has its mark only after exec; so look until nothing came for a while.
    quiet = 0
    for _turn in range(100):
        quiet = 0 if _kill_marked(mark) else quiet + 1
        if quiet == 4:
            return
        time.sleep(0.05)


def _kill_marked(mark):
    """Kill every process with this mark in its environment. Returns how many there were."""
    found = 0
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open("/proc/%s/environ" % name, "rb") as stream:
                if mark not in stream.read().split(b"\0"):
                    continue
            os.kill(int(name), signal.SIGKILL)
        except OSError:
            continue
        found += 1
    return found


class Child:
    """One child process with pipes, a deadline and bounded memory.

    :arg argv: list of str; the program is ``argv[0]`` unless ``executable``.
    :arg guard: a :class:`Guard` that is entered.
    :arg timeout: seconds until :meth:`read` and :meth:`wait` give up.
    :arg pass_fds: descriptors that it inherits under their numbers.
    :raises OSError: when it cannot be started (``exec`` failed).
    """

    def __init__(self, argv, guard, timeout, pass_fds=()):
        self._guard = guard
        self.deadline = time.monotonic() + timeout
        self._words = bytearray()
        self._taken = 0
        self._total = 0
        self.returncode = None
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd="/",
            env=guard.environment(),
            pass_fds=pass_fds,
            start_new_session=True,
        )
        self.pid = self._process.pid
        guard.watch(self.pid)
        # A QEMU that crashes leaves no core file.
        with contextlib.suppress(OSError):
            resource.prlimit(self.pid, resource.RLIMIT_CORE, (0, 0))
        self._in = self._process.stdin.fileno()
        self._out = self._process.stdout.fileno()
        self._err = self._process.stderr.fileno()
        self._open = {self._out, self._err}
        self._poll = select.poll()
        for fd in (self._in, self._out, self._err):
            os.set_blocking(fd, False)
        self._poll.register(self._out, select.POLLIN)
        self._poll.register(self._err, select.POLLIN)

    def read(self):
        """The next bytes of stdout; ``b""`` at its end, None when the deadline has passed. Collects stderr meanwhile."""
        while self._out in self._open:
            left = self.deadline - time.monotonic()
            if left <= 0:
                return None
            for fd, _event in self._poll.poll(left * 1000 + 1):
                data = self._take(fd)
                if fd == self._out and data:
                    return data
        return b""

    def count(self, size):
        """Note that ``size`` more bytes were read.

        :raises OutputTooLong: beyond :data:`MAX_OUTPUT`.
        """
        self._total += size
        if self._total > MAX_OUTPUT:
            raise OutputTooLong("printed more than %d bytes on stdout" % MAX_OUTPUT)

    def write(self, data):
        """Write to its stdin, as long as the deadline allows. A closed pipe is no error here: the next read tells the end."""
        view = memoryview(data)
        poll = select.poll()
        poll.register(self._in, select.POLLOUT)
        while view:
            left = self.deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000 + 1):
                return
            try:
                view = view[os.write(self._in, view) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return

    def words(self):
        """What it printed on stderr since the last call, as text. Does not wait."""
        for _turn in range(64):
            if self._err not in self._open or all(fd != self._err for fd, _event in self._poll.poll(0)):
                break
            self._take(self._err)
        text = bytes(self._words[self._taken :]).decode("utf-8", "replace")
        self._taken = len(self._words)
        return text

    def all_words(self):
        """All that it printed on stderr so far (the first 64 KiB)."""
        self.words()
        return bytes(self._words).decode("utf-8", "replace")

    def rest(self):
        """Stdout to its end, as bytes; stops at the deadline.

        :raises OutputTooLong: beyond :data:`MAX_OUTPUT`.
        """
        parts = []
        while True:
            data = self.read()
            if not data:
                return b"".join(parts)
            self.count(len(data))
            parts.append(data)

    def close_input(self):
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def wait(self):
        """Wait for its end until the deadline. Returns the exit status (negative: a signal), None when the deadline has passed."""
        if not self._drained():
            return None
        try:
            self.returncode = self._process.wait(max(0, self.deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return None
        return self.returncode

    def leave(self):
        """Let a child that was told to quit go, once it has closed its stdout (and with it all files); True unless the deadline passed first.

        The kernel then still takes its time (33 ms for one Linux AIO context); the child is reaped at the latest when this process ends, and killed then
        if it did not end within 2 seconds.
        """
        self.rest()
        if self._out in self._open:
            return False
        self.returncode = self._process.poll()
        if self.returncode is None:
            _leaving.append(self._process)
            self.returncode = 0
            self._close()
        return True

    def end(self):
        """Kill whatever is left of its group, reap it, close everything. Returns the exit status. May be called twice."""
        if self._process is None:
            return self.returncode
        if self.returncode is None and self._process.poll() is None:
            self._guard.use_force()
        with contextlib.suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)
        self.returncode = self._process.wait()
        self.words()
        self._close()
        return self.returncode

    def _drained(self):
        """Read both outputs to their end; False when the deadline has passed."""
        while self._open:
            left = self.deadline - time.monotonic()
            if left <= 0:
                return False
            for fd, _event in self._poll.poll(left * 1000 + 1):
                self.count(len(self._take(fd)))
        return True

    def _close(self):
        self._guard.forget(self.pid)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError):
                stream.close()
        self._open.clear()
        self._process = None

    def group(self):
        """Process ids of its session, itself first (a shell wrapper has children)."""
        pids = [self.pid]
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != self.pid:
                try:
                    with open("/proc/%s/stat" % name, "rb") as stream:
                        fields = stream.read().rpartition(b")")[2].split()
                except OSError:
                    continue
                if len(fields) > 3 and fields[3] == b"%d" % self.pid:
                    pids.append(int(name))
        return pids

    def _take(self, fd):
        try:
            data = os.read(fd, 256 * 1024)
        except BlockingIOError:
            return b""
        except OSError as exc:
            if exc.errno != errno.EIO:
                raise
            data = b""
        if not data:
            self._open.discard(fd)
            self._poll.unregister(fd)
        elif fd == self._err:
            self._words += data[: max(0, MAX_WORDS - len(self._words))]
        return data


@atexit.register
def _reap():
    for process in _leaving:
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Child processes with pipes, a deadline and bounded output. PRIVATE to kataops.aio.

Each is started by a :class:`~.guard.Guard`, leads a session of its own, and is gone with all that it started when the guard is.
"""

from __future__ import annotations

import errno
import os
import select
import time

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError

# What a child may print in all; a full QEMU answers everything that is asked here in well under 1 MB.
MAX_OUTPUT = 32 * 1024 * 1024
MAX_WORDS = 64 * 1024


class OutputTooLong(AioError):
    """The child printed more than its limit."""


class Child:
    """One child process with pipes, a deadline and bounded memory.

    :arg argv: list of str; the program is ``argv[0]``.
    :arg guard: a :class:`~.guard.Guard` that is entered.
    :arg timeout: seconds until :meth:`read` and :meth:`wait` give up.
    :arg pass_fds: descriptors that it inherits under their numbers.
    :arg environment: variables beside :data:`~.guard.ENVIRONMENT`.
    :arg limit: bytes that it may print, as counted by :meth:`count`.
    :raises OSError: when it cannot be started (``exec`` failed).
    """

    def __init__(self, argv, guard, timeout, pass_fds=(), environment=None, limit=MAX_OUTPUT):
        self._guard = guard
        self._program = argv[0]
        self._limit = limit
        self.deadline = time.monotonic() + timeout
        self._words = bytearray()
        self._taken = 0
        self._total = 0
        self.returncode = None
        theirs_in, self._in = os.pipe()
        self._out, theirs_out = os.pipe()
        self._err, theirs_err = os.pipe()
        try:
            self.pid = guard.start(argv, (theirs_in, theirs_out, theirs_err, *pass_fds), environment)
        except BaseException:
            for fd in (self._in, self._out, self._err):
                os.close(fd)
            raise
        finally:
            for fd in (theirs_in, theirs_out, theirs_err):
                os.close(fd)
        self._running = True
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

        :raises OutputTooLong: beyond the limit.
        """
        self._total += size
        if self._total > self._limit:
            raise OutputTooLong("it printed more than %d bytes" % self._limit, self._program, "an answer, and an end", "see what this program is")

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

        :raises OutputTooLong: beyond the limit.
        """
        parts = []
        while True:
            data = self.read()
            if not data:
                return b"".join(parts)
            self.count(len(data))
            parts.append(data)

    def close_input(self):
        if self._in is not None:
            os.close(self._in)
            self._in = None

    def wait(self):
        """Wait for its end until the deadline, passing over what it still prints.

        :returns: the exit status (negative: a signal); None when the deadline has passed, or it printed beyond the limit. Never raises for what it does.
        """
        while self._open:
            left = self.deadline - time.monotonic()
            if left <= 0 or self.flooded:
                return None
            for fd, _event in self._poll.poll(left * 1000 + 1):
                self._total += len(self._take(fd))
        self.returncode = self._guard.wait(self.pid, self.deadline)
        return self.returncode

    @property
    def flooded(self):
        """Whether it printed beyond its limit."""
        return self._total > self._limit

    def leave(self):
        """Let a child that was told to quit go, once it has closed its stdout (and with it all files); True unless the deadline passed first.

        The kernel then still takes its time (33 ms for one Linux AIO context); the guard waits for that.
        """
        self.rest()
        if self._out in self._open:
            return False
        self.returncode = 0
        self._guard.leave(self.pid)
        self._close()
        return True

    def end(self):
        """Kill whatever is left of its group, reap it, close everything. Returns the exit status. May be called twice."""
        if not self._running:
            return self.returncode
        self.returncode = self._guard.end(self.pid)
        self.words()
        self._close()
        return self.returncode

    def _close(self):
        self._running = False
        self.close_input()
        for fd in (self._out, self._err):
            os.close(fd)
        self._open.clear()

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

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A QMP session over a process's stdin and stdout, with time limits. PRIVATE to kataops.aio.

QEMU prints other text on stdout too (the monitor's ``qemu-io`` does, between the QMP lines), so what is no QMP message is kept as *noise*.
"""

from __future__ import annotations

import json
from collections import namedtuple

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError

# The schema of a full QEMU, the longest answer there is, has about 0.3 MB.
MAX_LINE = 8 * 1024 * 1024
# How much other text is kept, and how much is borne in all: the monitor's qemu-io prints about 100 bytes a time.
MAX_NOISE = 64 * 1024
MAX_NOISE_IN_ALL = 1024 * 1024

_MESSAGE_KEYS = ("QMP", "return", "error", "event")


class QmpError(AioError):
    """The conversation failed. ``kind``: ``timed_out``, ``ended`` (QEMU closed it) or ``unintelligible``."""

    def __init__(self, kind, what, **details):
        super().__init__(what, **details)
        self.kind = kind


Answer = namedtuple("Answer", ("ok", "value", "words", "noise", "events"))
Answer.__doc__ = """One answer: ``value`` of ``return`` when ok, else ``words`` = the error's description; ``noise`` = other text since the request."""


class QmpReader:
    """Turns bytes into QMP messages. Pure: :meth:`feed` bytes, take what comes out.

    Memory and time are bounded: a line over :data:`MAX_LINE` bytes raises, noise over :data:`MAX_NOISE` bytes is cut, and noise over
    :data:`MAX_NOISE_IN_ALL` bytes raises.
    """

    def __init__(self):
        self._rest = bytearray()
        self._scanned = 0
        self._noise = bytearray()
        self._noise_in_all = 0

    def feed(self, data):
        """Take bytes; return the messages that are complete now, as ``(message, noise)``: ``noise`` is the other text before the message.

        :raises QmpError: ``unintelligible`` where a line has no end, or too much is no message.
        """
        self._rest += data
        messages = []
        start = 0
        while True:
            end = self._rest.find(b"\n", max(start, self._scanned))
            if end < 0:
                break
            message = self._line(bytes(self._rest[start:end]))
            if message is not None:
                messages.append((message, self.noise()))
            start = end + 1
            self._scanned = start
        del self._rest[:start]
        self._scanned = len(self._rest)
        if len(self._rest) > MAX_LINE:
            raise QmpError("unintelligible", "a line of more than %d bytes is no QMP message" % MAX_LINE)
        return messages

    def noise(self):
        """Text that was no message since the last message, or the last call."""
        text = bytes(self._noise).decode("utf-8", "replace")
        self._noise = bytearray()
        return text

    def unfinished(self):
        """Text after the last line end."""
        return bytes(self._rest[:MAX_NOISE]).decode("utf-8", "replace")

    def _line(self, line):
        message = _as_message(line)
        if message is None:
            # Text without a line end may stand before a message.
            for key in _MESSAGE_KEYS if b"{" in line else ():
                at = line.find(b'{"%s"' % key.encode("ascii"))
                if at > 0:
                    message = _as_message(line[at:])
                if message is not None:
                    line = line[:at]
                    break
            self._noise_in_all += len(line) + 1
            if self._noise_in_all > MAX_NOISE_IN_ALL:
                raise QmpError("unintelligible", "more than %d bytes on stdout are no QMP messages" % MAX_NOISE_IN_ALL)
            if len(self._noise) < MAX_NOISE:
                self._noise += line[: MAX_NOISE - len(self._noise)] + b"\n"
        return message


def _as_message(line):
    """The QMP message that this line is, else None."""
    line = line.strip()
    if not line.startswith(b"{"):
        return None
    try:
        # RecursionError: thousands of opening brackets. ValueError: no JSON, no UTF-8, numbers beyond Python's limit.
        message = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict):
        return None
    if not any(key in message for key in _MESSAGE_KEYS):
        return None
    return message


def words_of(message):
    """The description in an error message of any shape."""
    error = message.get("error")
    if isinstance(error, dict) and isinstance(error.get("desc"), str):
        return error["desc"]
    return json.dumps(error)[:2000]


def items_of(answer):
    """The list of named things that an :class:`Answer` holds (``[{"name": ...}, ...]``).

    :raises QmpError: ``unintelligible`` where it is a refusal or has another shape.
    """
    items = answer.value if answer.ok else None
    if not isinstance(items, list) or not all(isinstance(item, dict) and isinstance(item.get("name"), str) for item in items):
        raise QmpError("unintelligible", "QEMU's list has another shape: %s" % json.dumps(answer.value if answer.ok else answer.words)[:300])
    return items


def version_of(greeting):
    """``(version, package)`` of a QMP greeting, e.g. ``("7.2.22", "Debian 1:7.2+dfsg-7+deb12u18")``.

    :raises QmpError: ``unintelligible`` where the greeting has another shape.
    """
    try:
        version = greeting["QMP"]["version"]
        numbers = [version["qemu"][part] for part in ("major", "minor", "micro")]
        package = version.get("package") or ""
        if not all(isinstance(number, int) and 0 <= number < 10000 for number in numbers) or not isinstance(package, str):
            raise ValueError("out of range")
    except (KeyError, TypeError, ValueError, AttributeError):
        raise QmpError("unintelligible", "the QMP greeting has another shape than QEMU's: %s" % json.dumps(greeting)[:300]) from None
    return "%d.%d.%d" % tuple(numbers), package.strip(" ()")


class QmpSession:
    """Speaks with one :class:`~._process.Child`.

    :arg child: the process; its ``read``, ``write`` and ``words`` are used.
    :arg record: None, or a list that takes ``{sent, answered}`` of every request.
    """

    def __init__(self, child, record=None):
        self._child = child
        self._reader = QmpReader()
        self._waiting = []
        self._record = record
        self._opening = None
        self.greeting = None

    def open(self, requests=()):
        """Leave the negotiation mode and send first requests, without waiting for QEMU to be up: it finds them when it is.

        :returns: the requests as sent, for :meth:`receive` after :meth:`greet`.
        """
        self._opening, *sent = self.send([("qmp_capabilities", None), *requests])
        return sent

    def greet(self):
        """Wait for the greeting and for the end of the negotiation mode. Returns the greeting.

        :raises QmpError: as for :meth:`ask`.
        """
        if self._opening is None:
            self.open()
        message, _noise = self._next()
        if "QMP" not in message:
            raise QmpError("unintelligible", "the first QMP message is no greeting: %s" % json.dumps(message)[:300])
        version_of(message)
        self.greeting = message
        [answer] = self.receive([self._opening])
        if not answer.ok:
            raise QmpError("unintelligible", "QEMU refuses qmp_capabilities: %s" % answer.words)
        return message

    def ask(self, command, arguments=None):
        """Send one request and wait for its answer; a refusal is an answer, too.

        :raises QmpError: ``timed_out``, ``ended`` or ``unintelligible``.
        """
        return self.ask_all([(command, arguments)])[0]

    def ask_all(self, requests):
        """Send several independent requests at once, and wait for all answers, in order.

        :arg requests: list of ``(command, arguments or None)``.
        """
        return self.receive(self.send(requests))

    def send(self, requests):
        """Send requests, and return what :meth:`receive` takes."""
        sent = []
        for command, arguments in requests:
            request = {"execute": command}
            if arguments:
                request["arguments"] = arguments
            sent.append(request)
        self._child.write(b"".join(json.dumps(request).encode("utf-8") + b"\n" for request in sent))
        return sent

    def receive(self, sent):
        """Wait for the answers to requests that were sent, in order.

        :raises QmpError: as for :meth:`ask`.
        """
        answers = []
        for request in sent:
            events, noise = [], ""
            while True:
                message, before = self._next()
                noise += before
                if "return" in message or "error" in message:
                    break
                events.append(message)
            ok = "return" in message
            answers.append(Answer(ok, message.get("return"), None if ok else words_of(message), noise, events))
            if self._record is not None:
                self._record.append({"sent": request, "answered": message})
        return answers

    def monitor(self, line):
        """Run one line of the human monitor."""
        return self.ask("human-monitor-command", {"command-line": line})

    def event(self):
        """Wait for the next event, and return its message. What came before the answer to a request is in that :class:`Answer`.

        :raises QmpError: as for :meth:`ask`.
        """
        while True:
            message, _noise = self._next()
            if "event" in message:
                return message

    def unsaid(self):
        """Text on stdout that was no QMP message, as far as it has been read."""
        return self._reader.noise() + self._reader.unfinished()

    def _next(self):
        while not self._waiting:
            data = self._child.read()
            if data is None:
                raise QmpError("timed_out", "no answer within the time limit")
            if not data:
                raise QmpError("ended", "QEMU ended without an answer")
            self._waiting.extend(self._reader.feed(data))
            self._child.count(len(data))
        return self._waiting.pop(0)

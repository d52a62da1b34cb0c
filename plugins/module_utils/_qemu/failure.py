# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a conversation with a QEMU ended too early: a status and a sentence. PRIVATE to kataops.aio."""

from __future__ import annotations

import re
import signal

# QEMU's remarks on accelerators that it was offered and does not have; it goes on with the next.
_USELESS_WORDS = (
    r"(?m)^.*: (?:invalid accelerator|failed to initialize (?:kvm|tcg|qtest)|falling back to (?:tcg|qtest|kvm)|warning: nic .{0,200} has no peer"
    r"|warning: global \S{1,200}\.kataops-aio\b).*$\n?"
    r"|^Could not access KVM kernel module.*$\n?"
)


def useful_words(stderr):
    """QEMU's stderr without the remarks that are of no use."""
    return re.sub(_USELESS_WORDS, "", stderr).strip()


def why_ended(exc, child, session, timeout, script):
    """Stop the process and say why it did not answer to the end.

    :arg exc: the ``QmpError`` of the conversation.
    :arg child: the ``Child``; it is ended here.
    :arg session: the ``QmpSession``, or None.
    :arg timeout: seconds that it was given.
    :arg script: True where a shell script was started (a shell reports its child's signal as 128 + number).
    :returns: ``(status, sentence, stderr, stdout)``: ``status`` as of the architecture page, the other two are what it printed.
    """
    said = session.unsaid() if session else ""
    if exc.kind == "timed_out":
        status, what = "timed_out", "no answer within %g seconds, so it was killed with its children; is it QEMU, and does it hang?" % timeout
    elif exc.kind == "unintelligible":
        status, what = "unintelligible", "%s; is it QEMU?" % exc.what
    else:
        exit_status = child.wait()
        if child.flooded:
            status, what = "unintelligible", "it closed its stdout and printed on stderr without end, so it was killed; is it QEMU?"
        elif exit_status is None:
            status = "timed_out"
            what = "it closed its stdout and did not end within %g seconds, so it was killed; is it QEMU?" % timeout
        else:
            status, what = _by_exit(exit_status, said, bool(session and session.greeting), script)
    child.end()
    stderr = useful_words(child.all_words())
    if stderr:
        what += ". Its last words: %s" % " / ".join(stderr.splitlines()[-3:])[:500]
    return status, what, stderr, said.strip()


def _by_exit(status, said, greeted, script):
    number = -status if status < 0 else status - 128 if script and 128 < status < 160 else None
    after = "while it was asked" if greeted else "before it answered"
    if number in (signal.SIGSYS, signal.SIGKILL):
        who = "seccomp forbids a system call that it needs" if number == signal.SIGSYS else "by somebody else, or for want of memory"
        return "killed", "killed by %s %s (%s)" % (signal.Signals(number).name, after, who)
    if number is not None:
        return "crashed", "ended by signal %d %s; install the QEMU again" % (number, after)
    if said.strip() and not greeted:
        return "unintelligible", "it ended with status %d and printed what is no QMP; is it QEMU?" % status
    if status == 0 and not greeted:
        return "not_qemu", "it ended with status 0 and said nothing; name a QEMU binary"
    return "crashed", "ended with status %d %s" % (status, after)

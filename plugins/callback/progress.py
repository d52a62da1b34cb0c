# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# ansible-test wants the documentation before the imports.
# ruff: noqa: E402
from __future__ import annotations

DOCUMENTATION = r"""
name: progress
type: aggregate
short_description: A line for each wave of a rollout
version_added: 0.1.0
description:
  - At the start of each wave (a batch of a play with C(serial)) says how many hosts are done, how many failed, and about how long the rest takes.
    A last line tells how the rollout ended.
  - A host counts as failed when its outcome (the variable C(kata_aio_outcome)) is C(failed), C(rolled_back) or C(unreachable), when Ansible could not
    reach it, or when a task failed on it (but one with C(run_once), which speaks for the wave) and no good outcome followed.
  - The time left comes from the last wave, by how many rounds of C(forks) hosts it took; before the first wave has ended there is no basis for it.
  - Plays without C(serial) are passed over in silence.
author:
  - The kataops founders (@kataops)
requirements:
  - Enabled by C(callbacks_enabled = kataops.aio.progress) in ansible.cfg.
options:
  show:
    description:
      - When to say anything.
      - V(auto) - when the standard output is a terminal and the environment variable E(CI) is not set to a true value.
    type: str
    choices: [auto, always, never]
    default: auto
    env:
      - name: KATA_AIO_PROGRESS
    ini:
      - section: callback_kataops_aio_progress
        key: show
"""

import math
import os
import sys
import time

from ansible import context
from ansible.plugins.callback import CallbackBase
from ansible_collections.kataops.aio.plugins.plugin_utils._rollout.waves import wave_sizes

BAD = ("failed", "rolled_back", "unreachable")


class Rollout:
    """The waves of one play: how many there are, what became of their hosts, and how long they took. Times are seconds of a monotonic clock."""

    def __init__(self, sizes, forks, now):
        self.sizes = sizes
        self.forks = max(forks, 1)
        self.started = self.wave_started = now
        self.wave = 0
        self.done = 0
        self.times = []
        self.failed = set()
        self.good = set()

    @property
    def total(self):
        return sum(self.sizes)

    def start_wave(self, now):
        """A wave starts; the one before it, if any, has ended."""
        self.end_wave(now)
        self.wave += 1
        self.wave_started = now

    def end_wave(self, now):
        """The current wave has ended, if there is one that has not."""
        if self.wave > len(self.times):
            self.times.append(now - self.wave_started)
            self.done += self.sizes[self.wave - 1] if self.wave <= len(self.sizes) else 0

    def left(self):
        """Seconds that the waves from the current one on will take, or None while no wave has ended.

        Ansible works on ``forks`` hosts at a time, so a wave takes as many rounds as it needs to get all its hosts through. The last wave is the
        measure: it is the largest so far.
        """
        if not self.times:
            return None
        per_round = self.times[-1] / self._rounds(self.sizes[len(self.times) - 1])
        return per_round * sum(self._rounds(size) for size in self.sizes[len(self.times) :])

    def _rounds(self, hosts):
        return max(math.ceil(hosts / self.forks), 1)

    def note(self, host, outcome):
        """A host's own account of how it went."""
        if outcome in BAD:
            self.failed.add(host)
            self.good.discard(host)
        elif outcome and outcome != "untouched":
            self.good.add(host)
            self.failed.discard(host)

    def note_failure(self, host):
        """A task failed on the host, or it was not reached; what it told before counts no more."""
        self.good.discard(host)
        self.failed.add(host)

    def start_line(self):
        size = self.sizes[self.wave - 1] if self.wave <= len(self.sizes) else 0
        words = ["wave %d of %d: %s" % (self.wave, len(self.sizes), hosts_text(size)), "%d/%d done" % (self.done, self.total)]
        words.append("%d failed" % len(self.failed))
        left = self.left()
        if left is not None:
            words.append("about %s left" % duration(left))
        return ", ".join(words)

    def end_line(self, now):
        reached = "%d/%d hosts" % (self.done, self.total)
        took = "took %s" % duration(now - self.started)
        if self.done >= self.total:
            return "all %d waves done: %s, %d failed, %s" % (len(self.sizes), reached, len(self.failed), took)
        return "stopped after wave %d of %d: %s, %d failed, %d not reached, %s" % (
            self.wave,
            len(self.sizes),
            reached,
            len(self.failed),
            self.total - self.done,
            took,
        )


def counted(hosts, serial, worked_on=None):
    """How many hosts each wave has, without those who only stand in: of these are not C(worked_on), where that is known."""
    sizes, start = [], 0
    # A later play with serial, over other hosts, has no placeholder hosts
    wanted = set(worked_on) if worked_on and set(worked_on) <= set(hosts) else set(hosts)
    for size in wave_sizes(serial, len(hosts)):
        sizes.append(sum(host in wanted for host in hosts[start : start + size]))
        start += size
    return sizes


def hosts_text(count):
    return "%d host%s" % (count, "" if count == 1 else "s")


def duration(seconds):
    """C(8 s), C(3 min), C(1 h 20 min): as exact as an estimate deserves."""
    if seconds < 100:
        return "%d s" % max(round(seconds), 1)
    minutes = round(seconds / 60)
    return "%d min" % minutes if minutes < 60 else "%d h %d min" % divmod(minutes, 60)


def wanted(show, environment, is_terminal):
    """Whether to say anything, by the option, the environment and the kind of output."""
    if show != "auto":
        return show == "always"
    return is_terminal and environment.get("CI", "").lower() in ("", "0", "false", "no")


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "kataops.aio.progress"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._play = None
        self._rollout = None

    def set_options(self, task_keys=None, var_options=None, direct=None):
        super().set_options(task_keys=task_keys, var_options=var_options, direct=direct)
        # A disabled callback is not called at all, so that silence costs nothing.
        self.disabled = not wanted(self.get_option("show"), os.environ, sys.stdout.isatty())

    def v2_playbook_on_play_start(self, play):
        # Ansible announces the play again for each batch, each time as a copy with the same identity.
        now = time.monotonic()
        if self._rollout is not None and play._uuid == self._play:
            self._rollout.start_wave(now)
        else:
            self._finish(now)
            self._play = play._uuid
            if not play.serial:
                return
            variables = play.get_variable_manager().get_vars(play=play, include_hostvars=False)
            sizes = counted(variables["ansible_play_hosts_all"], play.serial, variables["groups"].get("kata_aio_to_repair"))
            if not sizes:
                return
            self._rollout = Rollout(sizes, context.CLIARGS.get("forks") or 1, now)
            self._rollout.start_wave(now)
        self._say(self._rollout.start_line())

    def v2_runner_on_ok(self, result):
        if self._rollout is not None:
            facts = _result(result).get("ansible_facts")
            outcome = facts.get("kata_aio_outcome") if facts else None
            if outcome:
                self._rollout.note(_host(result), outcome.get("outcome"))

    def v2_runner_on_failed(self, result, ignore_errors=False):
        # A task with run_once speaks for the wave (the gate, the report), not for the host that it happens to be told of.
        if self._rollout is not None and not ignore_errors and not _task(result).run_once:
            self._rollout.note_failure(_host(result))

    def v2_runner_on_unreachable(self, result):
        if self._rollout is not None:
            self._rollout.note_failure(_host(result))

    def v2_playbook_on_stats(self, stats):
        self._finish(time.monotonic())

    def _finish(self, now):
        if self._rollout is not None:
            self._rollout.end_wave(now)
            self._say(self._rollout.end_line(now))
        self._rollout = None

    def _say(self, line):
        self._display.display("Rollout: " + line, color="yellow" if self._rollout.failed else "bright blue")


def _result(result):
    """The result's dictionary: public from ansible-core 2.19 on."""
    return result.result if hasattr(result, "result") else result._result


def _task(result):
    return result.task if hasattr(result, "task") else result._task


def _host(result):
    return (result.host if hasattr(result, "host") else result._host).name

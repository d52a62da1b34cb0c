# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of qemu_build: is the artifact there, lead the build, show its course, judge the result, fetch it."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import sys
import time

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.plugin_utils._rollout.artifacts import Artifacts

display = Display()

_MODULE = "kataops.aio.qemu_build"
_INTERVAL = 5.0 if sys.stdout.isatty() else 10.0


class Course:
    """A build's course, line by line: ``[523/1117] 47 %, at most about 3 min left``, or the phase before the compilation.

    An estimate that grows is worse than none. So it begins after a tenth of the steps, the first of which are cheap, has a margin, and is told only while
    it does not exceed what was told before.
    """

    BEGINS, MARGIN = 0.1, 1.4

    def __init__(self) -> None:
        self.minutes: int | None = None

    def line(self, status: dict) -> str:
        if not status.get("total"):
            return "%s, %d s" % (status.get("phase") or "starting", status.get("seconds") or 0)
        done, total, seconds = status["done"], status["total"], status.get("phase_seconds") or 0
        text = "[%d/%d] %d %%" % (done, total, 100 * done // total)
        if done < self.BEGINS * total or seconds < 5:
            return text
        minutes = math.ceil(self.MARGIN * seconds * (total - done) / done / 60)
        if self.minutes is not None and minutes > self.minutes:
            return text + ", slower than before"
        self.minutes = minutes
        return text + ", at most about %d min left" % max(minutes, 1)


class ActionModule(ActionBase):
    """Leads one build."""

    TRANSFERS_FILES = True
    _requires_connection = True

    def run(self, tmp=None, task_vars=None):
        """See the module's documentation."""
        result = super().run(tmp, task_vars)
        self._variables = task_vars
        step = self._task.args.get("step", "build")
        if step not in ("identify", "build"):
            result.update(self._execute_module(module_name=_MODULE, task_vars=task_vars))
            return result
        try:
            artifacts = Artifacts(self._task.args.get("artifacts_dir") or "~/.cache/kataops-aio/artifacts")
            digests = self._patch_digests()
            found = self._ask("identify", patch_digests=digests)
            if found.get("failed"):
                if self._task.check_mode:
                    result.update(changed=True, id=None, artifact=None, reason=found["msg"])
                    return result
                raise AioError(found["msg"])
            artifact = artifacts.find(found["id"])
            if artifact and step == "identify":
                display.display("    QEMU is taken from the cache, nothing is built: %s" % artifact["path"])
            result.update(id=found["id"], inputs=found["inputs"], artifact=artifact, changed=artifact is None and step == "build")
            if step == "identify" or artifact or self._task.check_mode:
                return result
            with artifacts.lock(found["id"], display.display):
                artifact = artifacts.find(found["id"])
                if artifact:
                    result.update(artifact=artifact, changed=False)
                else:
                    result.update(self._build(found["id"], digests, artifacts))
        except AioError as error:
            result.update(error.as_failure(), failed=True, changed=False)
        return result

    def _ask(self, step, **more):
        """One step on the builder, with this task's own options."""
        options = {key: value for key, value in self._task.args.items() if key not in ("step", "patches", "artifacts_dir")}
        options.update(more, step=step)
        found = self._execute_module(module_name=_MODULE, module_args=options, task_vars=self._variables)
        if found.get("failed") and "msg" not in found:
            found["msg"] = found.get("module_stderr") or found.get("exception") or "the builder gave no answer"
        return found

    def _demand(self, step, **more):
        found = self._ask(step, **more)
        if found.get("failed"):
            raise AioError("step %s failed on the builder: %s" % (step, found["msg"].rstrip(".")), where=self._builder())
        return found

    def _builder(self):
        return self._play_context.remote_addr or "the builder"

    def _patches(self):
        paths = self._task.args.get("patches") or []
        return [self._loader.path_dwim(os.path.expanduser(str(path))) for path in ([paths] if isinstance(paths, str) else paths)]

    def _patch_digests(self):
        digests = []
        for path in self._patches():
            try:
                with open(path, "rb") as handle:
                    digests.append(hashlib.sha256(handle.read()).hexdigest())
            except OSError as error:
                raise AioError("the patch cannot be read: %s" % error.strerror, where=path, expected="a patch file on the controller") from None
        return digests

    def _build(self, tree_id, digests, artifacts):
        folder = self._demand("prepare", id=tree_id)["folder"]
        for number, path in enumerate(self._patches()):
            self._transfer_file(path, "%s/patches/%04d.patch" % (folder, number))
        log = artifacts.log_path(tree_id)
        status = self._demand("start", id=tree_id, patch_digests=digests)
        began = time.monotonic()
        display.display("    %s is built on %s, which takes some minutes." % (tree_id, self._builder()))
        display.display("    Ctrl-C here does not end that: the next run takes it up. To end it, as root there: pkill -s $(cat %s/session)" % folder)
        course = Course()
        try:
            while status["state"] == "running":
                display.display("    %s  %s" % (tree_id, course.line(status)))
                status = self._watch(tree_id, began)
        finally:
            with contextlib.suppress(AnsibleError, OSError):
                self._connection.fetch_file("%s/log" % folder, log)
        if status["state"] != "succeeded":
            reason = "the time limit was reached" if status.get("rc") in (124, 137) else "exit status %s" % status.get("rc")
            if status["state"] == "interrupted":
                reason = "its processes were ended from outside"
            raise AioError(
                "the build failed in its phase %s (%s); its last lines:\n%s\n(end of the log)" % (status.get("phase"), reason, "\n".join(status["log_tail"])),
                where=self._builder(),
                remedy="the whole log is %s on the controller" % log,
                log=log,
            )
        checked = self._demand("check", id=tree_id)
        if checked["problems"]:
            raise AioError(
                "the QEMU that was built is not what was asked for, so it becomes no artifact: %s" % "; ".join(checked["problems"]),
                where=tree_id,
                remedy="see the configure step's summary in %s on the controller" % log,
                log=log,
            )
        packed = self._demand("pack", id=tree_id)
        artifact = artifacts.add(tree_id, packed, self._connection.fetch_file)
        self._ask("clean", id=tree_id)
        return {"artifact": artifact, "log": log, "seconds": status.get("seconds"), "engines": checked["engines"], "changed": True}

    def _watch(self, tree_id, began):
        """The next status; a connection that is lost for up to a minute does no harm, as the build goes on without it."""
        for attempt in range(7):
            try:
                found = self._ask("status", id=tree_id, wait=_INTERVAL)
                if not found.get("failed") and not found.get("unreachable"):
                    return found
                words = found.get("msg", "unreachable")
            except AnsibleError as error:
                words = str(error)
            if attempt < 6:
                display.warning("the builder %s does not answer (%s); the build goes on there, asking again" % (self._builder(), words))
                time.sleep(10)
                self._connection.reset()
        raise AioError(
            "the builder does not answer any more: %s" % words,
            where=self._builder(),
            remedy="run this again: the build goes on there and is taken up (it has run for %d s)" % (time.monotonic() - began),
        )

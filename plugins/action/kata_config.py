# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of kata_config: reads the TOML that the host sent, decides, has the host half write, and reads again."""

from __future__ import annotations

import base64
import posixpath
import re
import typing as t

from ansible.plugins.action import ActionBase
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.modules.kata_config import ARGUMENT_SPEC
from ansible_collections.kataops.aio.plugins.plugin_utils._ansible.plain import plain
from ansible_collections.kataops.aio.plugins.plugin_utils._change import decide as change
from ansible_collections.kataops.aio.plugins.plugin_utils._change import preview
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.discover import missing_documents

MODULE = "kataops.aio.kata_config"
DROP_IN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*\.toml\Z")
RESERVED = re.compile(r"^(10|20|22|25|30|50)-")
_VERIFY = "bring a QEMU that serves (role qemu, or the playbook remediate) and name it as qemu_path, or set verify_qemu: false to write all the same"
OF_ALL = ("engine", "settings", "qemu_path", "runtimes")
Data = t.Dict[str, t.Any]


class _HostFailed(Exception):
    """The host half failed; ``result`` is its result."""

    def __init__(self, result: Data) -> None:
        super().__init__(result.get("msg"))
        self.result = result


class ActionModule(ActionBase):
    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: Data | None = None) -> Data:
        result = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(
            argument_spec=ARGUMENT_SPEC,
            mutually_exclusive=[("per_runtime", name) for name in ("engine", "settings", "qemu_path")],
        )
        # On ansible-core before 2.19 a text that came from a host is of a type of its own
        args = plain(args)
        self._args, self._task_vars = args, task_vars
        try:
            check_arguments(args)
            result.update(self._ensure())
        except AioError as exc:
            result.update(exc.as_failure(), failed=True)
        except _HostFailed as exc:
            result.update(exc.result)
        result.pop("invocation", None)
        return result

    def _host(self, do: str, **request: t.Any) -> Data:
        """One request to the host half."""
        request.update(do=do, state_dir=self._args["state_dir"])
        arguments = {"host_request": request, "trusted_owners": self._args["trusted_owners"]}
        result = self._execute_module(module_name=MODULE, module_args=arguments, task_vars=self._task_vars)
        result.pop("invocation", None)
        if result.get("failed") or result.get("unreachable"):
            raise _HostFailed(result)
        return result

    def _look(self) -> Data:
        """The host's documents and ledger; a second request fetches what only the parse could name."""
        request = {"extra_files": self._args["containerd_configs"] + self._named_files(), "wanted": []}
        seen = self._host("collect", **request)
        missing = missing_documents(seen["kata"])
        return self._host("collect", **{**request, "wanted": missing}) if missing else seen

    def _named_files(self) -> list[str]:
        names = list(self._args["runtimes"]) + [name for part in self._args["per_runtime"] or [] for name in part["runtimes"]]
        return [name.split("#")[0] for name in names if name.startswith("/")]

    def _settled_look(self) -> tuple[Data, list[Data], list[str]]:
        """What :meth:`_look` sees once an interrupted transaction is settled: ``(seen, recovered, notes)``."""
        seen = self._look()
        if not seen["pending"]:
            return seen, [], []
        if self._task.check_mode:
            return seen, [], ["transaction %d was interrupted; a run would settle it first" % entry["seq"] for entry in seen["pending"]]
        recovered = self._host("recover")["recovered"]
        return self._look(), recovered, ["transaction %d was interrupted; it is now %s" % (entry["seq"], entry["outcome"]) for entry in recovered]

    def _ensure(self) -> Data:
        args = self._args
        seen, recovered, notes = self._settled_look()
        kata, ledger = seen["kata"], seen["ledger"]
        self._keys = sorted({key for part in [args] + (args["per_runtime"] or []) for key in part["settings"] or {}})
        before = preview.runtimes_by_id(kata, self._keys)
        wanted = []
        if args["state"] == "present":
            wanted = change.wishes(list(before.values()), requests_of(args))
            change.choose_methods(list(before.values()), wanted, ledger, args["drop_in_name"])
            selected = [wish.runtime for wish in wanted]
            files = change.files_to_write(kata, ledger, wanted)
        else:
            selected = change.select(list(before.values()), args["runtimes"]) if before or args["runtimes"] else []
            files = change.files_to_clear(kata, ledger, selected, args["drop_in_name"])
        changes = change.changes_of(kata, ledger, files, self._contents(files, ledger))
        after = preview.runtimes_by_id(preview.patched(kata, {c.path: None if c.new is None else c.new.decode() for c in changes}), self._keys)
        check_preview(wanted, selected, before, after)
        if changes and args["verify_qemu"]:
            self._verify_qemus(wanted, after)
        warnings, seq = [], None
        if changes and not self._task.check_mode:
            done = self._host("apply", changes=[c.as_request() for c in changes])
            seq, warnings, recovered = done["seq"], done["cautions"], recovered + done["recovered"]
            after = self._verified(seq, wanted, selected, after)
        touched = {path: file["members"] for path, file in files.items() if path in [c.path for c in changes]}
        result: Data = {
            "changed": bool(changes) or bool(recovered) or bool(seen["pending"]),
            "runtimes": runtimes_result(wanted, selected, before, after, touched),
            "files": [c.path for c in changes],
            "notes": notes + [note for wish in wanted for note in wish.notes],
            "transaction": seq,
            "recovered": recovered,
        }
        if warnings:
            result["warnings"] = warnings
        if self._task.diff:
            result["diff"] = diffs(result["runtimes"], before, after, [(c.path, c.old, c.new) for c in changes])
        return result

    def _verify_qemus(self, wanted: list[change.Wish], after: Data) -> None:
        """Refuse a change after which a sandbox, or a block device in it, could not start.

        :raises AioError: for a QEMU that does not run, or lacks the engine; nothing is written then.
        """
        asked = {}
        for wish in wanted:
            values = after[wish.runtime["id"]]["values"]
            engine = wish.keys.get("block_device_aio")
            if "path" in wish.keys or engine in ("native", "io_uring"):
                asked.setdefault(values["path"], []).append((wish.runtime["id"], engine))
        if not asked:
            return
        arguments = {"binaries": sorted(asked), "trusted_owners": self._args["trusted_owners"]}
        result = self._execute_module(module_name="kataops.aio.qemu_aio_info", module_args=arguments, task_vars=self._task_vars)
        if result.get("failed") or result.get("unreachable"):
            raise _HostFailed(result)
        qemus = {name: qemu for qemu in plain(result["qemus"]) for name in qemu["names"]}
        for path, users in asked.items():
            qemu = qemus[path]
            if qemu["status"] != "answered":
                raise AioError("this QEMU cannot be used: %s; nothing was written" % (qemu["reason"] or qemu["status"]), path, remedy=_VERIFY)
            for ident, engine in users:
                if engine is not None and qemu["engines"][engine]["compiled"] is False:
                    raise AioError("this QEMU was built without %s, which %s would ask for; nothing was written" % (engine, ident), path, remedy=_VERIFY)

    def _contents(self, files: Data, ledger: Data) -> Data:
        if not files:
            return {}
        found = self._host("read", paths=sorted(files))["contents"]
        contents = {
            path: {key: None if found[path][key + "_b64"] is None else base64.b64decode(found[path][key + "_b64"]) for key in ("present", "original")}
            for path in files
        }
        for path, file in files.items():
            if file["kind"] == "drop_in" and not file["keys"]:
                change.check_foreign(path, contents[path]["present"], ledger.get(path), self._args["force"])
        return contents

    def _verified(self, seq: int, wanted: list[change.Wish], selected: list[Data], expected: Data) -> Data:
        """The runtimes as the host has them now, by a fresh look.

        :raises AioError: where they are not what was wanted; the transaction is taken back then.
        """
        now = preview.runtimes_by_id(self._look()["kata"], self._keys)
        wrong = [short for wish in wanted for short in preview.shortfalls(now.get(wish.runtime["id"]), wish.keys)]
        wrong += ["%s reads other values than foreseen" % r["id"] for r in selected if now.get(r["id"], {}).get("values") != expected[r["id"]]["values"]]
        if not wrong:
            return now
        try:
            self._host("revert", seq=seq)
            outcome = "it was reverted"
        except _HostFailed as exc:
            outcome = "it could not be reverted (%s)" % exc.result.get("msg")
        raise AioError(
            "the change is not in effect, so %s: %s" % (outcome, "; ".join(wrong)),
            "transaction %d" % seq,
            remedy="see who else writes Kata's configuration on this host, then run again",
        )


def check_arguments(args: Data) -> None:
    """What the argument specification cannot say.

    :raises AioError: for a combination or a name that makes no sense.
    """
    if args["host_request"] is not None:
        raise AioError("this option is not for tasks", "host_request", remedy="leave it out")
    name = args["drop_in_name"]
    if not DROP_IN_NAME.match(name):
        raise AioError("this is no name for a drop-in", "drop_in_name: %s" % name, "a file name that ends in .toml and does not begin with a dot")
    if RESERVED.match(name):
        raise AioError("kata-deploy owns names that begin so, and may remove or rewrite them", "drop_in_name: %s" % name, "a name such as 60-kataops-aio.toml")
    if not posixpath.isabs(args["state_dir"]):
        raise AioError("this is no absolute path", "state_dir: %s" % args["state_dir"], remedy="give the path of a folder on the host")
    for part in [args] + (args["per_runtime"] or []):
        path = part["qemu_path"]
        if path is not None and not posixpath.isabs(path):
            raise AioError("this is no absolute path", "qemu_path: %s" % path, remedy="give the path that QEMU has on the host")
    if args["state"] != "present":
        return
    if args["per_runtime"] and args["runtimes"]:
        raise AioError("runtimes and per_runtime exclude each other", "per_runtime", remedy="name the runtimes in per_runtime")
    for part in requests_of(args):
        if not (part["engine"] or part["settings"] or part["qemu_path"]):
            raise AioError("nothing is wanted", "kata_config", "engine, settings or qemu_path with state: present")


def requests_of(args: Data) -> list[Data]:
    """The wanted settings as :func:`_kata_change.wishes` takes them."""
    if args["per_runtime"]:
        return [dict(part, method=part["method"] or args["method"]) for part in args["per_runtime"]]
    return [dict({key: args[key] for key in OF_ALL}, method=args["method"])]


def check_preview(wanted: list[change.Wish], selected: list[Data], before: Data, after: Data) -> None:
    """Refuse a change that would not do what was wanted, or would reach further.

    :raises AioError: before anything is written.
    """
    for wish in wanted:
        short = preview.shortfalls(after.get(wish.runtime["id"]), wish.keys)
        if short:
            raise AioError(
                "%s would not have the wanted settings: %s" % (wish.runtime["id"], "; ".join(short)),
                wish.path,
                remedy="correct the file that is named, or choose a drop_in_name that sorts after it",
            )
    chosen = {runtime["id"] for runtime in selected}
    for ident, runtime in before.items():
        then = after.get(ident, runtime)
        for state in ("refused", "unknown"):
            undoing = ident in chosen and not wanted  # without our keys it is again what it was before them, be it refused
            if then[state] and not undoing and not runtime["refused"] and not runtime["unknown"]:
                problems = [problem for problem in then["problems"] if problem not in runtime["problems"]] or then["problems"]
                why = "; ".join("%s: %s" % (problem["where"], problem["detail"]) for problem in problems[:3]) if state == "refused" else then["unknown"]
                words = (
                    "Kata would refuse every sandbox of this runtime after the change"
                    if state == "refused"
                    else "what Kata makes of it after the change is not known"
                )
                raise AioError("%s: %s; nothing was written" % (words, why), ident, remedy="use method: base_file, or change what is named")
        if ident not in chosen and (ident not in after or after[ident]["values"] != runtime["values"]):
            raise AioError("the change would reach this runtime too", ident, remedy="add it to runtimes, or use method: base_file")


def runtimes_result(wanted: list[change.Wish], selected: list[Data], before: Data, after: Data, touched: Data) -> list[Data]:
    """The ``runtimes`` of the result."""
    by_id = {wish.runtime["id"]: wish for wish in wanted}
    found = []
    for runtime in selected:
        ident = runtime["id"]
        wish = by_id.get(ident)
        mine = [path for path, members in touched.items() if ident in [member.runtime["id"] for member in members]]
        keys = dict(wish.keys) if wish else {}
        changed_keys = [key for key, value in before[ident]["values"].items() if ident in after and after[ident]["values"].get(key) != value]
        names = sorted(set(keys) | set(changed_keys))
        found.append(
            {
                "id": ident,
                "handlers": runtime["handlers"],
                "method": wish.chosen if wish and wish.keys else "none",
                "path": wish.path if wish and wish.keys else None,
                "settings": keys,
                "before": {name: before[ident]["values"].get(name) for name in names},
                "after": {name: after.get(ident, {"values": {}})["values"].get(name) for name in names},
                "changed": bool(mine),
            }
        )
    return found


def diffs(runtimes: list[Data], before: Data, after: Data, files: list[tuple[str, bytes | None, bytes | None]]) -> list[Data]:
    """The effective values, then each file's own difference."""
    found = []
    for runtime in runtimes:
        header = "effective values of %s" % runtime["id"]
        texts = [preview.effective_text(side.get(runtime["id"]), runtime["after"]) for side in (before, after)]
        if texts[0] != texts[1]:
            found.append({"before_header": header, "after_header": header, "before": texts[0], "after": texts[1]})
    for path, old, new in files:
        texts = ["" if content is None else content.decode("utf-8", "backslashreplace") for content in (old, new)]
        found.append({"before_header": path, "after_header": path, "before": texts[0], "after": texts[1]})
    return found

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of qemu_tree: an artifact that lies here is judged here, and sent only to a host that lacks its tree."""

from __future__ import annotations

import json
import os

from ansible.plugins.action import ActionBase
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._tree import manifest as _manifest
from ansible_collections.kataops.aio.plugins.module_utils._tree.store import Archive, check_engines

_MODULE = "kataops.aio.qemu_tree"


def recorded_sha256(path):
    """The SHA-256 in the checksum file beside an artifact (``<id>.json`` for ``<id>.tar.xz``), or None where there is none."""
    record = path.rsplit(".tar.", 1)[0] + ".json"
    try:
        with open(record, encoding="utf-8") as handle:
            return json.load(handle)["sha256"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise AioError("the artifact's checksum file is damaged", where=record, remedy="build the artifact again, or give its sha256") from None


class ActionModule(ActionBase):
    """Sends an artifact where it is needed; all else is the module's."""

    TRANSFERS_FILES = True

    def run(self, tmp=None, task_vars=None):
        """See the module's documentation."""
        result = super().run(tmp, task_vars)
        source = self._task.args.get("src")
        if not source:
            result.update(self._execute_module(module_name=_MODULE, task_vars=task_vars))
            return result
        try:
            result.update(self._bring(self._loader.path_dwim(os.path.expanduser(str(source))), task_vars))
        except AioError as error:
            result.update(error.as_failure(), failed=True, changed=False)
        return result

    def _bring(self, path, task_vars):
        options = {key: value for key, value in self._task.args.items() if key not in ("src", "id")}
        if options.get("state", "present") != "present" or options.get("archive") or options.get("url"):
            raise AioError("src goes with state present, and without archive and url", where="src: %s" % path)
        with Archive(path, options.get("sha256") or recorded_sha256(path)) as archive:
            manifest, manifest_sha256 = archive.manifest, archive.manifest_sha256
        if self._task.args.get("id", manifest["id"]) != manifest["id"]:
            raise AioError("the artifact is of another tree: %s" % manifest["id"], where=path, expected=self._task.args["id"])
        check_engines(manifest, options.get("engines") or [], where=path)
        options.update(id=manifest["id"], manifest_sha256=manifest_sha256)
        there = self._module(dict(options, state="queried"), task_vars)
        if there.get("failed") or there["whole"]:
            there.pop("whole", None)
            return dict(there, repaired=there.pop("problems", []), bytes_sent=0)
        if self._task.check_mode:
            binary = os.path.join(there["folder"], manifest["binary"])
            trees = {"before": "", "after": "%s\n" % manifest["id"], "before_header": there["folder"], "after_header": there["folder"]}
            result = {"changed": True, "id": manifest["id"], "folder": there["folder"], "binary": binary, "repaired": []}
            result.update(manifest=_manifest.head(manifest), bytes_sent=0)
            return dict(result, diff=trees) if self._task.diff else result
        remote = self._connection._shell.join_path(self._remote_folder(), "artifact.tar")
        self._transfer_file(path, remote)
        self._fixup_perms2((self._connection._shell.tmpdir, remote))
        sha256 = _manifest.file_sha256(path)
        result = dict(self._module(dict(options, archive=remote, sha256=sha256), task_vars), bytes_sent=os.path.getsize(path))
        if result.get("failed") and isinstance(result.get("msg"), str):
            result["msg"] = result["msg"].replace(remote, path)  # by the name that the user knows
        return result

    def _remote_folder(self):
        if not self._connection._shell.tmpdir:
            self._make_tmp_path()
        return self._connection._shell.tmpdir

    def _module(self, options, task_vars):
        return self._execute_module(module_name=_MODULE, module_args=options, task_vars=task_vars)

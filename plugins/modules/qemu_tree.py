#!/usr/bin/python
# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A versioned QEMU tree on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_tree
short_description: Keep versioned QEMU trees on a host
version_added: 0.1.0
author:
  - The kataops founders (@kataops)
description:
  - Unpacks an artifact of M(kataops.aio.qemu_build) below O(trees_dir) as C(<id>), checks a tree against its manifest, and takes trees away.
  - A tree appears by one rename, after each of its files was checked against the manifest and is on the disk.
  - Refused are paths that leave the tree, links, devices, setuid bits, files that the manifest does not have, other contents or sizes than it
    says, another architecture, and a binary without the engines that the manifest names. The host is then as it was before.
  - Nothing of Kata's own is touched. A running sandbox keeps the QEMU that it runs.
options:
  state:
    description:
      - V(present) makes the tree of O(src), O(archive) or O(url) stand there. A whole tree that is there already is left alone, and then nothing is
        sent or fetched. A damaged one is repaired, file by file.
      - V(verified) only checks the tree O(id) and fails where it is missing or differs from its manifest.
      - V(queried) tells whether the tree O(id) is there and whole. It never fails for that.
      - V(absent) takes the tree O(id) away. It fails where something still uses it.
      - V(pruned) takes away all trees that are neither in O(keep) nor in use.
      - V(in_place) makes the file O(target) be the QEMU of the tree O(id), by the rename of a new file. The old one is kept beside it.
      - V(taken_back) brings back what V(in_place) replaced, at O(target) or everywhere. What somebody else wrote there since is left alone.
    type: str
    choices: [present, verified, queried, absent, pruned, in_place, taken_back]
    default: present
  id:
    description:
      - The tree's id. Obligatory but with O(state=pruned) and O(state=taken_back), and with O(state=present) where O(archive) tells it.
    type: str
  src:
    description:
      - The artifact on the controller. It is checked there and sent only to a host that lacks its tree. O(id) is then not needed.
      - The SHA-256 is taken from the checksum file beside it where O(sha256) is not given.
    type: path
  archive:
    description: The artifact on the host.
    type: path
  url:
    description: Where the host fetches the artifact from (C(http), C(https), C(file)). O(sha256) is required with it.
    type: str
  sha256:
    description: What the artifact's SHA-256 has to be.
    type: str
  manifest_sha256:
    description: What the SHA-256 of the tree's manifest has to be. Without it a tree is checked against the manifest that lies in it.
    type: str
  engines:
    description: Engines that the QEMU has to have compiled in.
    type: list
    elements: str
    choices: [native, io_uring]
    default: []
  trees_dir:
    description: The folder of trees.
    type: path
    default: /opt/kataops/qemu
  target:
    description: The file of a Kata installation that O(state=in_place) replaces.
    type: path
  keep:
    description: Ids that O(state=pruned) leaves in any case.
    type: list
    elements: str
    default: []
  config_paths:
    description: Kata configurations that no CRI configuration leads to. A tree that is named there is in use.
    type: list
    elements: path
    default: []
  state_dir:
    description: The collection's state on the host. A tree that a rollback would need is in use.
    type: path
    default: /var/lib/kataops-aio
  timeout:
    description: Seconds without data after which fetching from O(url) is given up.
    type: int
    default: 60
extends_documentation_fragment:
  - kataops.aio.attributes
  - kataops.aio.attributes.trust
attributes:
  check_mode:
    support: full
    details:
      - With O(url) the artifact is not fetched in check mode, so what is wrong with it is not seen.
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    platforms: linux
    support: full
seealso:
  - module: kataops.aio.qemu_build
  - module: kataops.aio.qemu_aio_info
"""

EXAMPLES = r"""
- name: Bring an artifact of the controller to the host, if it lacks the tree
  kataops.aio.qemu_tree:
    src: ~/.cache/kataops-aio/artifacts/qemu-8.2.4-x86_64-static-0a1b2c3d4e5f.tar.xz
    engines: [native]

- name: Unpack an artifact that was copied to the host
  kataops.aio.qemu_tree:
    archive: /var/tmp/qemu-8.2.4-x86_64-static-0a1b2c3d4e5f.tar.xz
    sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    engines: [native]

- name: Let the host fetch it
  kataops.aio.qemu_tree:
    id: qemu-8.2.4-x86_64-static-0a1b2c3d4e5f
    url: https://artifacts.example.org/qemu-8.2.4-x86_64-static-0a1b2c3d4e5f.tar.xz
    sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08

- name: Check that no file of it was changed since
  kataops.aio.qemu_tree:
    state: verified
    id: qemu-8.2.4-x86_64-static-0a1b2c3d4e5f

- name: Take away what nothing uses any more
  kataops.aio.qemu_tree:
    state: pruned
"""

RETURN = r"""
id:
  description: The tree's id.
  returned: but with O(state=pruned) and O(state=taken_back)
  type: str
folder:
  description: The tree's folder.
  returned: but with O(state=pruned) and O(state=taken_back)
  type: str
binary:
  description: Path of the QEMU in it; V(null) where there is no whole tree.
  returned: with O(state=present), O(state=verified) and O(state=queried)
  type: str
whole:
  description: Whether the tree is there and is what its manifest says.
  returned: with O(state=queried)
  type: bool
problems:
  description: In what the tree differs from its manifest.
  returned: with O(state=queried), and with O(state=verified) when it fails
  type: list
  elements: str
repaired:
  description: What was wrong with a tree that was there already, and was repaired.
  returned: with O(state=present)
  type: list
  elements: str
bytes_sent:
  description: How much was sent from the controller, in bytes; V(0) where the host has the tree already.
  returned: with O(src)
  type: int
manifest:
  description: What the tree is made of; the whole manifest is the file C(manifest.json) in it.
  returned: when there is a tree
  type: dict
  contains:
    version:
      description: QEMU's version.
      type: str
    architecture:
      description: Machine architecture, as C(uname -m) names it.
      type: str
    linkage:
      description: V(static) or V(dynamic).
      type: str
    engines:
      description: Engines compiled in, beside V(threads).
      type: list
      elements: str
    source:
      description: The source's kind, name, version and SHA-256.
      type: dict
    runtime_packages:
      description: The distribution's packages that hold the libraries of a dynamic QEMU.
      type: list
      elements: str
used_by:
  description: What still uses the tree that was to be taken away.
  returned: with O(state=absent), when it fails
  type: list
  elements: str
removed:
  description: Ids of the trees that were taken away.
  returned: with O(state=pruned)
  type: list
  elements: str
kept:
  description: The trees that were left, by id, each with the reasons.
  returned: with O(state=pruned)
  type: dict
replaced:
  description: What became of the file that was replaced.
  returned: with O(state=in_place)
  type: dict
  contains:
    target:
      description: The real path of the file.
      type: str
    saved:
      description: Where the old file is kept.
      type: str
    before:
      description: SHA-256 of the old file.
      type: str
    after:
      description: SHA-256 of the new file.
      type: str
restored:
  description: Files that were brought back.
  returned: with O(state=taken_back)
  type: list
  elements: str
left:
  description: Files that were left as they are, each with the reason.
  returned: with O(state=taken_back)
  type: dict
"""

import os
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import fetch_url
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._host.trust import also_trust
from ansible_collections.kataops.aio.plugins.module_utils._tree import in_place as _in_place
from ansible_collections.kataops.aio.plugins.module_utils._tree import manifest as _manifest
from ansible_collections.kataops.aio.plugins.module_utils._tree import store as _tree
from ansible_collections.kataops.aio.plugins.module_utils._tree.use import users

ARGUMENT_SPEC = {
    "state": {"type": "str", "choices": ["present", "verified", "queried", "absent", "pruned", "in_place", "taken_back"], "default": "present"},
    "id": {"type": "str"},
    "src": {"type": "path"},
    "archive": {"type": "path"},
    "url": {"type": "str"},
    "sha256": {"type": "str"},
    "manifest_sha256": {"type": "str"},
    "engines": {"type": "list", "elements": "str", "choices": ["native", "io_uring"], "default": []},
    "trees_dir": {"type": "path", "default": _tree.DEFAULT_FOLDER},
    "target": {"type": "path"},
    "keep": {"type": "list", "elements": "str", "default": []},
    "config_paths": {"type": "list", "elements": "path", "default": []},
    "state_dir": {"type": "path", "default": "/var/lib/kataops-aio"},
    "timeout": {"type": "int", "default": 60},
    "trusted_owners": {"type": "list", "elements": "str", "default": []},
}


def fetch(module, target):
    """Fetches O(url) into the file ``target``; AioError where that fails."""
    url = module.params["url"]
    remedy = "check the URL and whether this host reaches it; a fetch that broke off is begun again by the next run"
    try:
        response, info = fetch_url(module, url, timeout=module.params["timeout"])
        if response is None or info["status"] not in (200, None, -1) or (info["status"] == -1 and not url.startswith("file:")):
            raise AioError("the artifact cannot be fetched: %s" % info["msg"].rstrip("."), where=url, remedy=remedy)
        with open(target, "wb") as handle:
            for block in iter(lambda: response.read(1 << 20), b""):
                handle.write(block)
    except OSError as error:
        raise AioError("fetching the artifact broke off: %s" % error, where=url, remedy=remedy) from None


def head(tree):
    """What a tree is made of, as its manifest says."""
    return _manifest.head(_tree.read_manifest(tree)[0])


def present(module):
    params = module.params
    folder = params["trees_dir"]
    if params["id"]:
        tree = os.path.join(folder, params["id"])
        if os.path.isdir(tree) and not _tree.problems(tree, params["manifest_sha256"]):
            manifest = _tree.read_manifest(tree)[0]
            _tree.check_fit(manifest, folder, params["engines"], where=tree)
            binary = os.path.join(tree, manifest["binary"])
            return {"changed": False, "id": params["id"], "folder": tree, "binary": binary, "repaired": [], "manifest": head(tree)}
    if params["archive"]:
        return install(module, params["archive"])
    if module.check_mode:
        tree = os.path.join(folder, params["id"])
        return {"changed": True, "id": params["id"], "folder": tree, "binary": None, "repaired": []}
    descriptor, path = tempfile.mkstemp(prefix="kataops-aio-", dir=module.tmpdir)
    os.close(descriptor)
    try:
        fetch(module, path)
        return install(module, path)
    finally:
        os.unlink(path)


def install(module, path):
    params = module.params
    result = _tree.install(
        path,
        params["trees_dir"],
        tree_id=params["id"],
        sha256=params["sha256"],
        manifest_sha256=params["manifest_sha256"],
        engines=params["engines"],
        check_mode=module.check_mode,
    )
    if os.path.isdir(result["folder"]) and not (module.check_mode and result["changed"]):
        result["manifest"] = head(result["folder"])
    return result


def queried(module):
    params = module.params
    tree = os.path.join(params["trees_dir"], params["id"])
    there = os.path.lexists(tree)
    problems = _tree.problems(tree, params["manifest_sha256"]) if there else ["%s is not there" % tree]
    result = {"changed": False, "id": params["id"], "folder": tree, "whole": not problems, "problems": problems, "binary": None}
    if not problems:
        result["manifest"] = head(tree)
        result["binary"] = os.path.join(tree, _tree.read_manifest(tree)[0]["binary"])
    return result


def verified(module):
    result = queried(module)
    if result["problems"]:
        raise AioError(
            "the tree is not what its manifest says: %s" % "; ".join(result["problems"]),
            where=result["folder"],
            expected="every file with the SHA-256, size and mode of the manifest, and no other file",
            remedy="install the artifact again (state: present repairs the tree)",
            problems=result["problems"],
        )
    del result["whole"], result["problems"]
    _tree.check_fit(_tree.read_manifest(result["folder"])[0], module.params["trees_dir"], module.params["engines"], where=result["folder"])
    return result


def used_by(module, tree):
    return users(tree, module.params["config_paths"], module.params["state_dir"])


def absent(module):
    params = module.params
    tree = os.path.join(params["trees_dir"], params["id"])
    result = {"changed": os.path.lexists(tree), "id": params["id"], "folder": tree}
    if not result["changed"]:
        return result
    found = used_by(module, tree)
    if found:
        raise AioError(
            "the tree is in use: %s" % "; ".join(found),
            where=tree,
            remedy="take back what names it, or wait for its sandboxes to end",
            used_by=found,
        )
    if not module.check_mode:
        _tree.remove(params["trees_dir"], params["id"])
    return result


def pruned(module):
    folder = module.params["trees_dir"]
    removed, kept = [], {}
    for tree_id in _tree.tree_ids(folder):
        reasons = ["it is in keep"] if tree_id in module.params["keep"] else used_by(module, os.path.join(folder, tree_id))
        if reasons:
            kept[tree_id] = reasons
            continue
        removed.append(tree_id)
        if not module.check_mode:
            _tree.remove(folder, tree_id)
    return {"changed": bool(removed), "removed": removed, "kept": kept}


def in_place(module):
    verified(module)
    params = module.params
    tree = os.path.join(params["trees_dir"], params["id"])
    replaced = _in_place.place(tree, params["target"], params["state_dir"], module.check_mode)
    return {"changed": replaced.pop("changed"), "id": params["id"], "folder": tree, "replaced": replaced}


def taken_back(module):
    return _in_place.take_back(module.params["state_dir"], module.params["target"], module.check_mode)


STATES = {
    "present": present,
    "verified": verified,
    "queried": queried,
    "absent": absent,
    "pruned": pruned,
    "in_place": in_place,
    "taken_back": taken_back,
}


def main():
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC,
        required_if=[
            ("state", "present", ("src", "archive", "url"), True),
            ("state", "verified", ("id",)),
            ("state", "queried", ("id",)),
            ("state", "absent", ("id",)),
            ("state", "in_place", ("id", "target")),
        ],
        mutually_exclusive=[("src", "archive", "url")],
        required_by={"url": ("sha256", "id")},
        supports_check_mode=True,
    )
    also_trust(module.params["trusted_owners"])
    try:
        if module.params["id"]:
            _manifest.valid_id(module.params["id"])
        before = _tree.tree_ids(module.params["trees_dir"])
        result = STATES[module.params["state"]](module)
        if module._diff and result["changed"]:
            result["diff"] = difference(module.params, before, result)
        module.exit_json(**result)
    except AioError as error:
        module.fail_json(**error.as_failure())


def difference(params, before, result):
    """The trees before and after, one a line; a repaired one with what was wrong with it. Of a replaced file, its SHA-256."""
    if params["state"] == "in_place":
        found = result["replaced"]
        return {
            "before_header": found["target"],
            "after_header": found["target"],
            "before": "sha256 %s\n" % found["before"],
            "after": "sha256 %s\n" % found["after"],
        }
    if params["state"] == "taken_back":
        return {"before": "".join("replaced: %s\n" % path for path in result["restored"]), "after": ""}
    gone = set(result.get("removed", [])) | ({result["id"]} if params["state"] == "absent" else set())
    after = (set(before) - gone) | ({result["id"]} if params["state"] == "present" else set())
    lines = ["%s: %s" % (result["id"], problem) for problem in result.get("repaired", [])]
    header = params["trees_dir"]
    return {
        "before_header": header,
        "after_header": header,
        "before": "".join(line + "\n" for line in sorted(before) + lines),
        "after": "".join(line + "\n" for line in sorted(after)),
    }


if __name__ == "__main__":
    main()

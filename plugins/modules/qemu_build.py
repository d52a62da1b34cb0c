#!/usr/bin/python
# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds a QEMU for Kata on a builder; the action plugin of the same name leads it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_build
short_description: Build a QEMU for Kata Containers and fetch it as an artifact
version_added: 0.1.0
author:
  - The kataops founders (@kataops)
description:
  - Builds QEMU's system emulator on a builder the way Kata's static build does, but with the block AIO engines that are asked for.
  - The result is a content-addressed artifact on the controller. Equal inputs have an equal id, and an artifact that is there is not built again.
  - The build runs detached on the builder. A lost connection does not end it; the next run with equal inputs takes it up again.
  - The finished binary is started and asked for each engine, device and object, and a machine of Kata's type is started with its firmware.
    A binary that lacks one of them becomes no artifact.
  - The role P(kataops.aio.qemu_build#role) installs the build dependencies, provides the source and calls this.
options:
  step:
    description:
      - V(identify) tells the id that a build with these options would have, and whether its artifact is there.
      - V(build) does that and builds, checks, packs and fetches where the artifact is missing.
      - The other steps are what the action plugin asks of the builder. They are not meant to be used by themselves.
    type: str
    choices: [identify, build, prepare, start, status, stop, check, pack, clean]
    default: build
  source:
    description: What is built.
    type: dict
    required: true
    suboptions:
      kind:
        description:
          - V(distribution) is the source package of the builder's distribution (apt).
          - V(tarball) is an official release tarball that lies on the builder.
          - V(git) is one commit of a git repository.
          - V(kata_static) is a C(kata-static) release tarball that lies on the builder. Only its QEMU and firmware are taken, nothing is compiled.
        type: str
        choices: [distribution, tarball, git, kata_static]
        required: true
      name:
        description: Name of the source package (V(qemu) if not given), the tarball's file name, or the git repository's URL.
        type: str
      version:
        description: Version; of a source package the newest if not given.
        type: str
      sha256:
        description: The tarball's SHA-256, or the full commit id of a git source.
        type: str
      path:
        description: Where the tarball lies on the builder.
        type: path
  patches:
    description: Patch files on the controller, applied in this order with C(patch -p1).
    type: list
    elements: path
    default: []
  packages:
    description: The packages that the build uses. Their versions are part of the identity.
    type: list
    elements: str
    default: []
  engines:
    description: Engines compiled in, beside V(threads), which every QEMU has.
    type: list
    elements: str
    choices: [native, io_uring]
    default: [native, io_uring]
  linkage:
    description: Whether the binary holds its libraries, as Kata's own does.
    type: str
    choices: [static, dynamic]
    default: static
  minimal:
    description: Build only what a KVM machine with virtio disks needs. Such a QEMU lacks devices that Kata needs.
    type: bool
    default: false
  hardening:
    description: Compile and link with the hardening flags of Kata's own build.
    type: bool
    default: true
  configure_extra:
    description: Further arguments for QEMU's configure, after all others.
    type: list
    elements: str
    default: []
  architecture:
    description: Machine architecture; the builder's if not given.
    type: str
  work_dir:
    description: Folder on the builder for sources and objects, about 2 GiB a build while it runs.
    type: path
    default: /var/lib/kataops-aio/build
  cache_dir:
    description: Folder on the builder for the compiler cache.
    type: path
    default: /var/cache/kataops-aio
  artifacts_dir:
    description: Folder on the controller for artifacts and build logs.
    type: path
    default: ~/.cache/kataops-aio/artifacts
  time_limit:
    description: Seconds that a build may take before it is ended.
    type: int
    default: 7200
  jobs:
    description: Compilations side by side; all cores if not given.
    type: int
  patch_digests:
    description: SHA-256 of each patch. Set by the action plugin.
    type: list
    elements: str
    default: []
  id:
    description: The build that a step is about. Set by the action plugin.
    type: str
  wait:
    description: Seconds that O(step=status) waits for the end of the build. Set by the action plugin.
    type: float
    default: 0
extends_documentation_fragment:
  - kataops.aio.attributes
attributes:
  check_mode:
    support: partial
    details:
      - Tells whether a build would be needed. The id is V(null) where the builder cannot tell it yet, for instance with empty package lists.
  diff_mode:
    support: none
  idempotent:
    support: full
  platform:
    platforms: linux
    support: full
requirements:
  - A builder with Debian or Ubuntu (tried), or another Linux that has the build dependencies (not tried).
seealso:
  - module: kataops.aio.qemu_tree
  - module: kataops.aio.qemu_aio_info
"""

EXAMPLES = r"""
- name: A QEMU with both engines from the builder's distribution
  kataops.aio.qemu_build:
    source:
      kind: distribution
    packages: "{{ qemu_build_packages }}"
  register: built

- name: Which artifact would that be?
  kataops.aio.qemu_build:
    step: identify
    source:
      kind: distribution
    packages: "{{ qemu_build_packages }}"
  register: wanted
"""

RETURN = r"""
id:
  description: The tree's id, made of version, architecture, linkage and the digest of all inputs; V(null) with RV(reason) where it is not known yet.
  returned: always
  type: str
  sample: qemu-7.2+dfsg-7+deb12u18-x86_64-static-0a1b2c3d4e5f
artifact:
  description: The artifact on the controller, V(null) where there is none.
  returned: with O(step=identify) and O(step=build)
  type: dict
  contains:
    path:
      description: The archive.
      type: str
    sha256:
      description: SHA-256 of the archive.
      type: str
    size:
      description: Size of the archive in bytes.
      type: int
    manifest_path:
      description: The tree's manifest, as it is in the archive.
      type: str
    manifest_sha256:
      description: SHA-256 of the manifest.
      type: str
inputs:
  description: Everything that decides the bytes of the result.
  returned: when the id is known
  type: dict
reason:
  description: Why the id is not known.
  returned: in check mode, when the id is V(null)
  type: str
log:
  description: The build's log on the controller.
  returned: when something was built
  type: str
seconds:
  description: How long the build took, in seconds.
  returned: when something was built
  type: int
state:
  description: State of a build; one of V(absent), V(running), V(succeeded), V(failed), V(interrupted). For the action plugin.
  returned: with O(step=start), O(step=status) and O(step=stop)
  type: str
rc:
  description: Exit status of the build's script. For the action plugin.
  returned: with O(step=status), when the build has ended
  type: int
phase:
  description: The step of the build that runs. For the action plugin.
  returned: with O(step=status)
  type: str
done:
  description: Compilation steps done. For the action plugin.
  returned: with O(step=status)
  type: int
total:
  description: Compilation steps in all. For the action plugin.
  returned: with O(step=status)
  type: int
phase_seconds:
  description: Seconds since the phase began. For the action plugin.
  returned: with O(step=status)
  type: int
engines:
  description: What became of each engine when the finished binary was started on the builder, as in M(kataops.aio.qemu_aio_info).
  returned: when something was built
  type: dict
  sample: {native: works, io_uring: works}
problems:
  description: In what the finished binary differs from what was asked for. For the action plugin.
  returned: with O(step=check)
  type: list
  elements: str
log_tail:
  description: Last 40 lines of the log of a build that failed. For the action plugin.
  returned: with O(step=status)
  type: list
  elements: str
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kataops.aio.plugins.module_utils._build.builder import Build, identify, make_work_folder
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._host.trust import require_folder

ARGUMENT_SPEC = {
    "step": {
        "type": "str",
        "choices": ["identify", "build", "prepare", "start", "status", "stop", "check", "pack", "clean"],
        "default": "build",
    },
    "source": {
        "type": "dict",
        "required": True,
        "options": {
            "kind": {"type": "str", "choices": ["distribution", "tarball", "git", "kata_static"], "required": True},
            "name": {"type": "str"},
            "version": {"type": "str"},
            "sha256": {"type": "str"},
            "path": {"type": "path"},
        },
    },
    "patches": {"type": "list", "elements": "path", "default": []},
    "packages": {"type": "list", "elements": "str", "default": []},
    "engines": {"type": "list", "elements": "str", "choices": ["native", "io_uring"], "default": ["native", "io_uring"]},
    "linkage": {"type": "str", "choices": ["static", "dynamic"], "default": "static"},
    "minimal": {"type": "bool", "default": False},
    "hardening": {"type": "bool", "default": True},
    "configure_extra": {"type": "list", "elements": "str", "default": []},
    "architecture": {"type": "str"},
    "work_dir": {"type": "path", "default": "/var/lib/kataops-aio/build"},
    "cache_dir": {"type": "path", "default": "/var/cache/kataops-aio"},
    "artifacts_dir": {"type": "path", "default": "~/.cache/kataops-aio/artifacts"},
    "time_limit": {"type": "int", "default": 7200},
    "jobs": {"type": "int"},
    "patch_digests": {"type": "list", "elements": "str", "default": []},
    "id": {"type": "str"},
    "wait": {"type": "float", "default": 0},
}


def perform(options):
    """The result of one step on the builder."""
    step = options["step"]
    if step not in ("identify", "build"):
        require_folder(options["work_dir"], "building QEMU")
    if step == "identify":
        make_work_folder(options["work_dir"])
        return identify(options)
    if step == "build":
        raise AioError("this step is led by the collection's action plugin", where="step: build", remedy="call the module from a playbook")
    build = Build(options["work_dir"], options["id"])
    if step == "prepare":
        os.makedirs(build.path("patches"), exist_ok=True)
        return {"folder": build.folder}
    if step == "status":
        return build.status(options["wait"])
    if step == "stop":
        return build.stop()
    if step == "check":
        return build.check()
    if step == "pack":
        return dict(build.pack(), changed=True)
    if step == "clean":
        return {"changed": build.clean()}
    found = identify(options)
    if found["id"] != options["id"]:
        raise AioError(
            "the builder's inputs changed while it was prepared: %s became %s" % (options["id"], found["id"]),
            where=options["work_dir"],
            remedy="run the build again",
        )
    patches = ["%s/%04d.patch" % (build.path("patches"), number) for number in range(len(options["patch_digests"]))]
    return build.start(
        found["inputs"],
        options["cache_dir"],
        options["time_limit"],
        source_path=options["source"]["path"],
        patches=patches,
        jobs=options["jobs"],
    )


def main():
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    try:
        module.exit_json(**dict({"changed": False}, **perform(module.params)))
    except AioError as error:
        module.fail_json(**error.as_failure())


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_aio_info
short_description: Observe which AIO engines a QEMU binary has and which of them work on this host
version_added: 0.1.0
description:
  - Starts each QEMU once, without a machine, and asks it over QMP which of the engines V(threads), V(native) and V(io_uring) it takes, with and
    without C(cache.direct), on the storage that will hold block images. With each engine it writes 64 KiB and reads in C(/proc) which engine the
    process really uses.
  - So a silent fall-back to threads, as QEMU 9.0 to 10.1 do it, is seen as what it is. No version is ever looked at.
  - Where a binary cannot be run (another architecture, no execute permission, it hangs or crashes), its ELF file is read instead.
  - Two names of one file are one result, and one process.
  - What is wrong with a binary is a result, never a failure of the module. Nothing is left behind, also when the module itself is killed.
extends_documentation_fragment:
  - kataops.aio.attributes
  - kataops.aio.attributes.trust
  - kataops.aio.attributes.info_module
options:
  binaries:
    description:
      - Absolute paths of QEMU binaries, as Kata's configuration names them. A shell wrapper is followed and run as it is.
    type: list
    elements: path
    required: true
  storage_path:
    description:
      - Absolute path of the folder that will hold block images. Where it does not exist, the nearest existing folder above it is used.
      - By default C(/var/lib/containerd) where it exists, else C(/var/lib).
    type: path
  timeout:
    description:
      - Seconds that each binary may take. Then it is killed together with all that it started.
    type: int
    default: 10
  run:
    description:
      - With V(false) nothing is started; only the ELF file is read. Right for a candidate that is still in a staging folder.
    type: bool
    default: true
seealso:
  - module: kataops.aio.kata_aio_proof
  - module: kataops.aio.libaio_info
author:
  - The kataops founders (@kataops)
"""

EXAMPLES = r"""
- name: Which engines work with Kata's QEMU on the storage of its block volumes?
  kataops.aio.qemu_aio_info:
    binaries:
      - /opt/kata/bin/qemu-system-x86_64
    storage_path: /var/lib/containerd
  register: observed

- name: Stop where native does not work
  ansible.builtin.assert:
    that: observed.qemus[0].engines.native.usable
    fail_msg: "{{ observed.qemus[0].engines.native.reason }}"

- name: What does a build for another architecture have?
  kataops.aio.qemu_aio_info:
    binaries: /var/tmp/staging/qemu-system-aarch64
    run: false
"""

RETURN = r"""
qemus:
  description: One entry for each different file, in the order in which they were first named.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: The first name that the file was given by.
      type: str
    names:
      description: Every name that it was given by.
      type: list
      elements: str
    real_path:
      description: The file behind links; of a wrapper, the ELF file that it runs. V(null) where it is missing or not known.
      type: str
    status:
      description: How the observation ended.
      type: str
      choices: [answered, missing, not_executable, foreign_architecture, not_qemu, timed_out, crashed, killed, unintelligible, unreadable, untrusted]
    reason:
      description: One sentence on why it did not answer. V(null) only when it answered.
      type: str
    kind:
      description: What kind of file it is. V(null) where it is missing.
      type: str
      choices: [elf, script, other]
    wrapper:
      description: Where the file is a script, its C(path), the C(target) that it runs and the C(data_dirs) that it passes with C(-L). Else V(null).
      type: dict
    origin:
      description: Whose QEMU it is. V(null) where nothing is known of it.
      type: str
      choices: [kata_static, distribution, snap, kataops, other]
    package:
      description: Name and version of the package that owns the file. V(null) where none does.
      type: str
    file:
      description: C(size) in bytes, C(mtime) in seconds since the epoch, C(inode) and C(device). V(null) where it is missing.
      type: dict
    version:
      description: Version of QEMU. Told for information; nothing is concluded from it.
      type: str
    version_by:
      description: How the version is known.
      type: str
      choices: [qmp, elf]
    architecture:
      description: Architecture of the ELF file, as C(uname -m) names it.
      type: str
    linkage:
      description: How the ELF file is linked.
      type: str
      choices: [static, dynamic]
    needed:
      description: Shared libraries that the ELF file needs.
      type: list
      elements: str
    engines:
      description: The engines V(threads), V(native) and V(io_uring), each with the keys below.
      type: dict
      contains:
        compiled:
          description: Whether it is in the binary. V(null) where that is not known.
          type: bool
        compiled_by:
          description: How that is known.
          type: str
          choices: [qmp, elf]
        usable:
          description: Whether it does I/O here and now on the probed storage with C(cache.direct=on). V(null) where it was not tried.
          type: bool
        outcome:
          description:
            - What happened. V(refused) is an error of C(blockdev-add) although the engine is in the binary; V(falls_back) is QEMU accepting it and
              using another one in silence.
          type: str
          choices: [works, not_compiled, refused, falls_back, unknown]
        cause:
          description:
            - Why it does not work. V(no_o_direct) is a fact of the storage and not of the engine; RV(qemus[].engines.observed) then tells which
              engine did the I/O without C(cache.direct).
          type: str
          choices: [not_in_build, aio_exhausted, io_uring_refused, kernel_refused, no_o_direct, io_error, other]
        needs_direct:
          description: >-
            Whether QEMU refuses it without C(cache.direct). V(null) where that was not tried - an engine that works with it is not tried without, but for
            V(native).
          type: bool
        observed:
          description: The engine that the kernel showed after one I/O. V(null) where no I/O was done.
          type: str
          choices: [threads, native, io_uring]
        reason:
          description: Why it does not work or is not known. V(null) where it works.
          type: str
        evidence:
          description: What was asked of QEMU and the kernel, and their own words.
          type: list
          elements: dict
    firmware:
      description:
        - C(search_paths) are the folders that this QEMU searches, C(missing) the required files that are in none of them, C(found) the path of each
          file that is, C(reason) one sentence. C(search_paths) and C(missing) are V(null) where QEMU was not asked.
      type: dict
    devices_missing:
      description: Of the devices that Kata needs, those that this QEMU does not have. V(null) where it was not asked.
      type: list
      elements: str
    objects_missing:
      description: Of the objects that Kata needs, those that this QEMU does not have. V(null) where it was not asked.
      type: list
      elements: str
    machine_types:
      description: Of Kata's machine types, those that this QEMU has. V(null) where it was not asked.
      type: list
      elements: str
    evidence:
      description: What was asked about the binary as a whole, C(asked), C(answered) and C(by).
      type: list
      elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._host.trust import also_trust
from ansible_collections.kataops.aio.plugins.module_utils._qemu.observe import observe_qemus


def main():
    module = AnsibleModule(
        argument_spec={
            "binaries": {"type": "list", "elements": "path", "required": True},
            "storage_path": {"type": "path"},
            "timeout": {"type": "int", "default": 10},
            "trusted_owners": {"type": "list", "elements": "str", "default": []},
            "run": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    options = module.params
    also_trust(options["trusted_owners"])
    try:
        qemus = observe_qemus(options["binaries"], options["storage_path"], options["timeout"], options["run"])
    except AioError as exc:
        module.fail_json(**exc.as_failure())
    module.exit_json(changed=False, qemus=qemus)


if __name__ == "__main__":
    main()

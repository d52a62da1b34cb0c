#!/usr/bin/python
# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_aio_proof
short_description: Prove that Kata's block hot-plug works with a QEMU and an AIO engine on this host
version_added: 0.1.0
description:
  - Starts a QEMU with Kata's machine but no guest, sends it the very QMP requests that a Kata runtime sends to plug in a block device, writes and
    reads 64 KiB through it, and looks in C(/proc) which engine served the I/O.
  - The block device is a loop device over a nameless file on the storage that is asked about. Nothing is left behind, also when the module is killed.
  - The accelerators kvm, tcg and qtest are tried in this order; no guest code is ever run.
extends_documentation_fragment:
  - kataops.aio.attributes
  - kataops.aio.attributes.trust
  - kataops.aio.attributes.info_module
options:
  binary:
    description: Absolute path of the QEMU, as Kata's configuration would name it. A shell wrapper is run as it is.
    type: path
    required: true
  runtime:
    description:
      - Whose requests to send. V(go) puts C(cache) on the outer node and only with O(cache_set=true); V(rs) puts it on the inner node and looks at
        O(cache_direct) only, as runtime-rs does from 3.29 on.
    type: str
    choices: [go, rs]
    default: go
  release:
    description:
      - Kata's release, like V(3.7.0), whose requests to send; by default those of the newest that is known (4.1.0).
      - It matters. QEMU 9.2 and later refuse arguments of the wrong type, as Go sent them until 3.21 (C(virtio-blk)) and 3.13 (C(virtio-scsi)); and
        runtime-rs sends no C(cache) before 3.29 and does not heed C(block_device_aio) before 3.21.
    type: str
  engine:
    description: The C(block_device_aio) to prove.
    type: str
    choices: [threads, native, io_uring]
    default: native
  cache_set:
    description: The C(block_device_cache_set) of the configuration.
    type: bool
    default: true
  cache_direct:
    description: The C(block_device_cache_direct) of the configuration.
    type: bool
    default: true
  block_device_driver:
    description: The C(block_device_driver) of the configuration. V(virtio-blk) is the Go runtime's name for what runtime-rs calls V(virtio-blk-pci).
    type: str
    choices: [virtio-blk, virtio-blk-pci, virtio-scsi]
    default: virtio-blk
  machine_type:
    description: The C(machine_type) of the configuration.
    type: str
    choices: [q35, virt]
    default: q35
  storage_path:
    description:
      - Absolute path of the folder that will hold block images. Where it does not exist, the nearest existing folder above it is used.
      - By default C(/var/lib/containerd) where it exists, else C(/var/lib).
    type: path
  seccompsandbox:
    description: The C(seccompsandbox) of the configuration, passed on as QEMU's C(-sandbox).
    type: str
  timeout:
    description: Seconds for all of it. Then QEMU is killed together with all that it started.
    type: int
    default: 30
  fail:
    description: Fail where the proof fails. With V(false) the result tells instead.
    type: bool
    default: true
notes:
  - A loop device needs root. Where none can be had, a regular file stands for it, and RV(reason) says in what the requests differ from Kata's.
seealso:
  - module: kataops.aio.qemu_aio_info
author:
  - The kataops founders (@kataops)
"""

EXAMPLES = r"""
- name: Prove a new QEMU before Kata's configuration names it
  kataops.aio.kata_aio_proof:
    binary: /opt/kataops/qemu/8.2.4-1f0e/bin/qemu-system-x86_64
    runtime: go
    release: 3.7.0
    engine: native
    cache_set: true
    cache_direct: true
    storage_path: /var/lib/containerd

- name: Does io_uring work as runtime-rs asks for it? Only tell
  kataops.aio.kata_aio_proof:
    binary: /opt/kata/bin/qemu-system-x86_64
    runtime: rs
    engine: io_uring
    block_device_driver: virtio-scsi
    fail: false
  register: proof
"""

RETURN = r"""
ok:
  description: Whether the drive was plugged in, the bytes were written and read back, and the engine asked for did it.
  returned: always
  type: bool
engine_asked:
  description: The engine that was asked for.
  returned: always
  type: str
engine_observed:
  description: The engine that the kernel showed after the I/O. V(null) where no I/O was done.
  returned: always
  type: str
accelerator:
  description: V(kvm), V(tcg) or V(qtest), by which QEMU ran the machine. V(null) where it did not start.
  returned: always
  type: str
backend:
  description: V(loop_device), or V(regular_file) where no loop device could be had. V(null) where QEMU was not started.
  returned: always
  type: str
cause:
  description:
    - In one word why the proof failed, V(null) where RV(ok=true). One of RV(kataops.aio.qemu_aio_info#module:qemus[].engines.cause), V(needs_direct),
      V(falls_back), V(firmware), V(device), V(storage), V(setting_ignored), or a status of RV(kataops.aio.qemu_aio_info#module:qemus[].status).
  returned: always
  type: str
firmware_ok:
  description: Whether QEMU found the firmware of the machine and of a network card. V(null) where it did not get so far.
  returned: always
  type: bool
transcript:
  description: Every QMP request and its answer, in order.
  returned: always
  type: list
  elements: dict
  contains:
    sent:
      description: The request.
      type: dict
    answered:
      description: QEMU's answer.
      type: dict
reason:
  description: Why the proof failed, with QEMU's own words; or in what the requests differed from Kata's. V(null) where neither.
  returned: always
  type: str
evidence:
  description: What was asked besides, C(asked), C(answered) and C(by).
  returned: always
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._host.trust import also_trust
from ansible_collections.kataops.aio.plugins.module_utils._qemu.proof import BLOCK_DRIVERS, MACHINE_TYPES, RUNTIMES, prove


def main():
    module = AnsibleModule(
        argument_spec={
            "binary": {"type": "path", "required": True},
            "runtime": {"type": "str", "choices": list(RUNTIMES), "default": "go"},
            "engine": {"type": "str", "choices": ["threads", "native", "io_uring"], "default": "native"},
            "cache_set": {"type": "bool", "default": True},
            "cache_direct": {"type": "bool", "default": True},
            "block_device_driver": {"type": "str", "choices": list(BLOCK_DRIVERS), "default": "virtio-blk"},
            "release": {"type": "str"},
            "machine_type": {"type": "str", "choices": list(MACHINE_TYPES), "default": "q35"},
            "storage_path": {"type": "path"},
            "seccompsandbox": {"type": "str"},
            "timeout": {"type": "int", "default": 30},
            "trusted_owners": {"type": "list", "elements": "str", "default": []},
            "fail": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    options = dict(module.params)
    fail = options.pop("fail")
    also_trust(options.pop("trusted_owners"))
    options["seccomp_sandbox"] = options.pop("seccompsandbox")
    try:
        result = prove(**options)
    except AioError as exc:
        module.fail_json(**exc.as_failure())
    if fail and not result["ok"]:
        module.fail_json(msg="Kata's hot-plug with %s does not work: %s" % (options["engine"], result["reason"]), **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()

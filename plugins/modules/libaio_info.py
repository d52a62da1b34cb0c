#!/usr/bin/python
# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: libaio_info
short_description: libaio, the kernel's AIO and io_uring limits, and storage for O_DIRECT
version_added: 0.1.0
description:
  - Tells what a host offers to a QEMU that uses Linux AIO (C(aio=native)) or io_uring - the library, the kernel's limits and switches, and whether
    storage takes C(O_DIRECT), which native needs.
  - The kernel is asked by sysctl and by making the calls - C(io_setup(2)) and C(io_uring_setup(2)), released at once - because a seccomp filter
    refuses them whatever the sysctls say.
  - It only looks. The storage probe writes one block to a file without a name, which is gone when the probe ends; on a file system that is mounted
    read-only nothing is tried.
author:
  - The kataops founders (@kataops)
extends_documentation_fragment:
  - kataops.aio.attributes
  - kataops.aio.attributes.info_module
options:
  storage_paths:
    description:
      - Folders that hold, or will hold, the images behind block devices. Each is probed for C(O_DIRECT).
      - For a folder that does not exist, the nearest one above it that does is probed.
    type: list
    elements: str
    default: []
  user_probe:
    description:
      - Whether the calls are also made as an ordinary user (user id 65534, in a child process), which is how the QEMU of a Kata configuration with
        C(rootless = true) makes them.
    type: bool
    default: true
notes:
  - Run it as root. Without root, what only root can tell is V(none) with a reason.
seealso:
  - module: kataops.aio.kata_aio_facts
"""

EXAMPLES = r"""
- name: What does this host offer to aio=native?
  kataops.aio.libaio_info:
    storage_paths:
      - /var/lib/containerd
  register: libaio

- name: Stop where fewer than 100 more sandboxes could use native
  ansible.builtin.assert:
    that: libaio.kernel.aio.contexts_free >= 100
    fail_msg: "fs.aio-max-nr is {{ libaio.kernel.aio.max_nr }}, of which {{ libaio.kernel.aio.nr }} are taken."

- name: Only the limits and the library
  kataops.aio.libaio_info:
    user_probe: false
"""

RETURN = r"""
kernel:
  description: The kernel's limits and switches. A key that could not be found out is V(none), and a C(reason) beside it says why.
  returned: success
  type: dict
  contains:
    release:
      description: The kernel's release, as C(uname -r).
      type: str
      returned: always
      sample: 6.1.0-18-amd64
    kvm:
      description: Whether C(/dev/kvm) can be opened and answers as KVM does, without which Kata starts no QEMU.
      type: dict
      returned: always
      contains:
        usable:
          description: Whether it can; V(none) where an ordinary user was refused what root may not be.
          type: bool
          returned: always
        reason:
          description: Why it cannot, in a sentence.
          type: str
          returned: always
        evidence:
          description: What was asked, what came back, and by which means.
          type: list
          elements: dict
          returned: always
    aio:
      description: Linux AIO, which QEMU calls native.
      type: dict
      returned: always
      contains:
        max_nr:
          description: C(fs.aio-max-nr), the number of events (requests in flight) that all AIO contexts of the machine may reserve.
          type: int
          returned: always
          sample: 65536
        nr:
          description: C(fs.aio-nr), the number of events reserved now.
          type: int
          returned: always
          sample: 1024
        free:
          description: RV(kernel.aio.max_nr) less RV(kernel.aio.nr), in events, never below 0.
          type: int
          returned: always
          sample: 64512
        contexts_free:
          description:
            - How many more contexts of 1024 events fit. QEMU makes one for its main loop and one for each iothread that does I/O, so this is the
              number of further sandboxes without iothreads.
          type: int
          returned: always
          sample: 63
        io_setup:
          description:
            - What C(io_setup(1024)) answered, as the user that the module runs as.
            - Where exactly one context is left, C(io_setup(1)) is asked instead, so that the last one is not taken from a sandbox that starts then.
          type: dict
          returned: always
          contains: &call
            ok:
              description: Whether the kernel granted the call; V(none) where it was not made.
              type: bool
              returned: always
            errno:
              description: The name of the error, such as V(EAGAIN), V(EPERM) or V(ENOSYS).
              type: str
              returned: always
            reason:
              description: Why RV(ignore:ok) is not true, in a sentence.
              type: str
              returned: always
            evidence:
              description: What was asked, what came back, and by which means.
              type: list
              elements: dict
              returned: always
              sample: [{asked: io_setup(1024), answered: success, by: syscall}]
        io_setup_user:
          description: The same as user 65534. See O(user_probe).
          type: dict
          returned: always
          contains: *call
        boot:
          description: What the sysctl files set at the next boot.
          type: dict
          returned: always
          contains: &boot
            value:
              description: The value that wins; V(none) where no file sets the key.
              type: int
              returned: always
              sample: 1048576
            files:
              description: The files that set the key, each with C(path) and C(value), in the order in which they are applied. The last one wins.
              type: list
              elements: dict
              returned: always
              sample: [{path: /etc/sysctl.d/60-kataops-aio.conf, value: 1048576}]
            reason:
              description: Which files could not be read.
              type: str
              returned: always
        reason:
          description: Why a number above is V(none).
          type: str
          returned: always
        evidence:
          description: The sysctl files that were read, and what they held.
          type: list
          elements: dict
          returned: always
    io_uring:
      description: The kernel's io_uring.
      type: dict
      returned: always
      contains:
        disabled:
          description:
            - C(kernel.io_uring_disabled) - V(0) everyone may use io_uring, V(1) only C(CAP_SYS_ADMIN) and the members of C(kernel.io_uring_group),
              V(2) nobody. V(none) on a kernel without the switch (before Linux 6.6 and RHEL 9.3).
          type: int
          returned: always
          sample: 2
        group:
          description: C(kernel.io_uring_group), a group id, or V(-1) for no group.
          type: int
          returned: always
          sample: -1
        setup_root:
          description: What C(io_uring_setup(1)) answered to root.
          type: dict
          returned: always
          contains: *call
        setup_user:
          description: The same as user 65534. See O(user_probe).
          type: dict
          returned: always
          contains: *call
        boot:
          description: What the sysctl files set C(kernel.io_uring_disabled) to at the next boot.
          type: dict
          returned: always
          contains: *boot
        reason:
          description: Why RV(kernel.io_uring.disabled) is V(none).
          type: str
          returned: always
        evidence:
          description: The sysctl files that were read, and what they held.
          type: list
          elements: dict
          returned: always
libaio:
  description: libaio's files on the host.
  returned: success
  type: dict
  contains:
    runtime:
      description: The shared library that a dynamically linked QEMU loads (C(libaio.so.1), or C(libaio.so.1t64) from Debian 13 and Ubuntu 24.04 on).
      type: dict
      returned: always
      contains:
        present: &present
          description: Whether it is there.
          type: bool
          returned: always
        path: &path
          description: Where.
          type: str
          returned: always
        soname:
          description: The name that a binary asks for.
          type: str
          returned: always
          sample: libaio.so.1
        package: &package
          description: The package that owns it.
          type: str
          returned: always
        version: &version
          description: That package's version.
          type: str
          returned: always
        reason: &reason
          description: Why it is not there, or why its package is not known.
          type: str
          returned: always
    headers:
      description: C(libaio.h), which every build needs.
      type: dict
      returned: always
      contains: &file
        present: *present
        path: *path
        package: *package
        version: *version
        reason: *reason
    linker_name:
      description: C(libaio.so), which a dynamic build links with.
      type: dict
      returned: always
      contains: *file
    static_archive:
      description: C(libaio.a), which a static build links with.
      type: dict
      returned: always
      contains: *file
    builds:
      description:
        - For C(dynamic) and C(static), whether all of libaio that a QEMU build with C(--enable-linux-aio) needs is there (C(ok)), and what is
          C(missing).
      type: dict
      returned: always
      sample: {dynamic: {ok: true, missing: []}, static: {ok: false, missing: [libaio.a]}}
    package_manager:
      description: V(dpkg), V(rpm) or V(none).
      type: str
      returned: always
    evidence:
      description: What was asked, what came back, and by which means.
      type: list
      elements: dict
      returned: always
storage:
  description: One entry for each of O(storage_paths), in their order.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: The folder as it was asked for.
      type: str
      returned: always
    probed:
      description: The folder that was probed - the nearest existing one.
      type: str
      returned: always
    filesystem:
      description: The type of its file system.
      type: str
      returned: always
      sample: ext4
    o_direct:
      description: Whether a block was written and read with C(O_DIRECT) there; V(none) where that could not be tried.
      type: bool
      returned: always
    reason:
      description: Why C(o_direct) is not true.
      type: str
      returned: always
    evidence:
      description: What was asked, what came back, and by which means.
      type: list
      elements: dict
      returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kataops.aio.plugins.module_utils._host.kernel import observe_kernel
from ansible_collections.kataops.aio.plugins.module_utils._host.libaio import observe_libaio
from ansible_collections.kataops.aio.plugins.module_utils._host.storage import observe_storage


def main():
    module = AnsibleModule(
        argument_spec={
            "storage_paths": {"type": "list", "elements": "str", "default": []},
            "user_probe": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    module.exit_json(
        changed=False,
        kernel=observe_kernel(user_probe=module.params["user_probe"]),
        libaio=observe_libaio(),
        storage=observe_storage(module.params["storage_paths"]),
    )


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_bench
short_description: Measure throughput and CPU of a QEMU's AIO engines on this host's storage
version_added: 0.2.0
description:
  - Starts a QEMU without a machine and lets it copy between a file on the storage, opened as Kata opens a disk (C(cache.direct=on)), and nowhere
    (QEMU's C(null-co)), with each engine in turn. So it measures the very QEMU that Kata runs, on the very storage, and needs no guest, no
    C(qemu-img) and no C(fio).
  - Requests are 64 KiB, up to 64 at a time (what QEMU's copy job sends). CPU is that of the QEMU process with all its threads; what the kernel
    does outside of it is not counted.
  - The engines take turns in several rounds and the medians are compared, so that other work on the host troubles all of them alike. Compare ratios;
    absolute numbers say more of the host and its day.
  - Nothing is changed and nothing stays. The test file has no name, and is gone when the module ends, however it ends.
extends_documentation_fragment:
  - kataops.aio.attributes
  - kataops.aio.attributes.trust
attributes:
  check_mode:
    support: none
    details:
      - It loads the storage, so a check run leaves it out.
  diff_mode:
    support: N/A
    details:
      - This action does not modify state.
  idempotent:
    support: full
    details:
      - This action does not modify state.
  platform:
    platforms: linux
    support: full
options:
  binary:
    description: Absolute path of the QEMU, as Kata's configuration names it. A shell wrapper is run as it is.
    type: path
    required: true
  engines:
    description: The engines to measure. Without V(threads) there are no ratios.
    type: list
    elements: str
    choices: [threads, native, io_uring]
    default: [threads, native, io_uring]
  storage_path:
    description:
      - Absolute path of the folder that will hold block images. Where it does not exist, the nearest existing folder above it is used.
      - By default C(/var/lib/containerd) where it exists, else C(/var/lib).
    type: path
  size:
    description:
      - MiB of the test file. Twice as much has to be free.
      - It should be larger than the write cache of the storage, where that cache is not to be measured.
    type: int
    default: 256
  seconds:
    description: Seconds that each engine writes, and that it reads, in each round; at least once over the whole file.
    type: int
    default: 2
  rounds:
    description: How often the engines take turns.
    type: int
    default: 3
  timeout:
    description: Seconds that QEMU may take to start. One pass over the file may take 120.
    type: int
    default: 10
  fail:
    description:
      - Whether a host on which nothing can be measured (no such QEMU, no room) is a failure. With V(false) RV(reason) tells.
      - That one engine does not work is never a failure.
    type: bool
    default: true
notes:
  - It loads the storage and up to two cores for about O(seconds) x 2 x number of O(engines) x O(rounds), 36 seconds by default. On storage that
    several hosts share, let the hosts take turns.
  - V(native) takes one AIO context (1024 events of C(fs.aio-max-nr)) meanwhile; it is left out where only 8 are free.
seealso:
  - module: kataops.aio.qemu_aio_info
  - module: kataops.aio.kata_aio_benchmark_report
author:
  - The kataops founders (@kataops)
"""

EXAMPLES = r"""
- name: What would native gain on this host?
  kataops.aio.qemu_bench:
    binary: /opt/kata/bin/qemu-system-x86_64
    storage_path: /var/lib/containerd
  register: measured

- name: Tell
  ansible.builtin.debug:
    msg: "native takes {{ measured.engines.native.read.cpu_ratio }} of the CPU of threads"
  when: measured.engines.native.ran
"""

RETURN = r"""
binary:
  description: As O(binary).
  returned: always
  type: str
version:
  description: Version of the QEMU. V(null) where nothing was measured.
  returned: always
  type: str
storage:
  description: The folder of the test file (C(path)) and its C(filesystem).
  returned: RV(reason=none)
  type: dict
size:
  description: Size of the test file in bytes.
  returned: RV(reason=none)
  type: int
request_bytes:
  description: Size of one request in bytes.
  returned: RV(reason=none)
  type: int
in_flight:
  description: How many requests QEMU sends at a time, at most.
  returned: RV(reason=none)
  type: int
seconds:
  description: As O(seconds).
  returned: RV(reason=none)
  type: int
rounds:
  description: As O(rounds).
  returned: RV(reason=none)
  type: int
reason:
  description: Why nothing was measured, V(null) otherwise.
  returned: always
  type: str
engines:
  description: The engines that were asked for, by name; empty where nothing was measured.
  returned: always
  type: dict
  contains:
    ran:
      description: Whether it was measured.
      returned: always
      type: bool
    observed:
      description: The engine that the kernel showed. Another one than asked for is a silent fall-back, and the numbers are that engine's.
      returned: always
      type: str
    reason:
      description: Why it was not measured, or what fell back. V(null) otherwise.
      returned: always
      type: str
    write:
      description: What writing took. V(null) where it was not measured.
      returned: always
      type: dict
      contains:
        bytes_per_second:
          description: Throughput in bytes per second.
          type: int
        requests_per_second:
          description: Throughput in requests per second.
          type: int
        cpu_us_per_request:
          description: CPU of the QEMU process in microseconds per request.
          type: float
        throughput_ratio:
          description: Throughput as a multiple of that of V(threads). V(null) where that was not measured.
          type: float
        cpu_ratio:
          description: CPU per request as a multiple of that of V(threads). V(null) where that was not measured.
          type: float
    read:
      description: What reading took; the same keys.
      returned: always
      type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._host.trust import also_trust
from ansible_collections.kataops.aio.plugins.module_utils._qemu.bench import MIB, bench


def main():
    module = AnsibleModule(
        argument_spec={
            "binary": {"type": "path", "required": True},
            "engines": {
                "type": "list",
                "elements": "str",
                "choices": ["threads", "native", "io_uring"],
                "default": ["threads", "native", "io_uring"],
            },
            "storage_path": {"type": "path"},
            "size": {"type": "int", "default": 256},
            "seconds": {"type": "int", "default": 2},
            "rounds": {"type": "int", "default": 3},
            "timeout": {"type": "int", "default": 10},
            "trusted_owners": {"type": "list", "elements": "str", "default": []},
            "fail": {"type": "bool", "default": True},
        },
        supports_check_mode=False,
    )
    options = dict(module.params)
    fail = options.pop("fail")
    also_trust(options.pop("trusted_owners"))
    options["size"] *= MIB
    try:
        result = bench(**options)
    except AioError as exc:
        if fail:
            module.fail_json(**exc.as_failure())
        module.exit_json(changed=False, binary=options["binary"], version=None, reason=str(exc), engines={})
    module.exit_json(changed=False, reason=None, **result)


if __name__ == "__main__":
    main()

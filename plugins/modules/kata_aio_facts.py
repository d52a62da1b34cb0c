#!/usr/bin/python
# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_aio_facts
short_description: Everything about block AIO on a Kata Containers host, judged
version_added: 0.1.0
description:
  - Observes a host in one round trip and returns only C(ansible_facts.kata_aio) - Kata's runtimes and their effective configuration, the QEMU
    binaries that they name, libaio, the kernel's limits and switches, the storage of block images, and the running sandboxes.
  - The controller reads the TOML that the host sends (by the merge rules of the Go runtime and of runtime-rs), and judges the observations into
    findings (V(KAIO###)), a verdict, and a plan. The rules are listed in C(docs/rules.md).
  - It only looks. QEMU binaries are started with C(-machine none), one process for each, without a guest, and are gone when the module ends.
  - An option that the task does not give is taken from the playbooks' variable of that meaning (O(headroom) from C(kata_aio_headroom), and so on;
    C(docs/variables.md)), where the host has it.
  - Where the first look shows that more has to be read (a place that only the TOML names), a second round trip fetches it.
author:
  - The kataops founders (@kataops)
extends_documentation_fragment:
  - kataops.aio.attributes
  - kataops.aio.attributes.trust
  - kataops.aio.attributes.info_module
options:
  engine:
    description:
      - The engine that the host should use.
      - V(auto) is the one that each runtime asks for; where the host can never give that one, V(native).
    type: str
    choices: [auto, native, io_uring, threads]
    default: auto
  storage_path:
    description:
      - The folder that holds the images behind block devices. It is probed for C(O_DIRECT), in its nearest existing parent where it does not exist.
    type: path
    default: /var/lib/containerd
  headroom:
    description: How many more sandboxes must fit under C(fs.aio-max-nr). The default is above the kubelet's default of 110 pods.
    type: int
    default: 128
  aio_max_nr:
    description: What a plan raises C(fs.aio-max-nr) to, in events; a sandbox takes 1024 for each AioContext.
    type: int
    default: 1048576
  strategies:
    description: The strategies to a working QEMU that a plan may take, in this order.
    type: list
    elements: str
    choices: [configuration, reuse, replace, rebuild]
    default: [configuration, reuse, replace, rebuild]
  allow_fallback:
    description: Whether a plan may settle for V(io_uring) or V(threads) where no strategy leads to the wanted engine.
    type: bool
    default: false
  artifact:
    description:
      - What the strategy V(replace) brings (path on the controller, or URL). A QEMU tree's archive, or Kata's C(kata-static-<release>-<arch>.tar.{xz,zst}).
    type: str
  artifact_sha256:
    description: SHA-256 of O(artifact).
    type: str
  package:
    description: Whether the strategy V(replace) may install the distribution's QEMU package on the host.
    type: bool
    default: false
  method:
    description: How a plan wants the configuration changed; see O(kataops.aio.kata_config#module:method).
    type: str
    choices: [auto, drop_in, base_file]
    default: auto
  exclude:
    description:
      - Patterns (C(*), C(?), C([...])) over the names of handlers and the paths of Kata's configuration files. A runtime all of whose handlers match, or
        whose configuration file does, is left out - named as excluded, neither judged nor planned for.
    type: list
    elements: str
    default: []
  containerd_configs:
    description: Further containerd or CRI-O configuration files to read, for installations in unusual places.
    type: list
    elements: path
    default: []
  binaries:
    description: Further QEMU binaries to observe, beside those that the configuration names.
    type: list
    elements: path
    default: []
  timeout:
    description: Seconds that one QEMU binary may take to answer; then its process group is killed.
    type: int
    default: 10
  observe_qemu:
    description: Whether QEMU binaries are started. V(false) reads their ELF files only.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Observe and judge the host
  kataops.aio.kata_aio_facts:

- name: Say what was found
  ansible.builtin.debug:
    msg: "{{ ansible_facts.kata_aio.verdict }}: {{ ansible_facts.kata_aio.findings | map(attribute='title') | join('; ') }}"

- name: Judge for a fleet that is to use native AIO, with its images on a volume of its own
  kataops.aio.kata_aio_facts:
    engine: native
    storage_path: /srv/images
"""

RETURN = r"""
ansible_facts:
  description: The only thing returned.
  returned: always
  type: dict
  contains:
    kata_aio:
      description: The host, observed and judged. Keys are always there; what could not be found out is V(none) beside a reason.
      returned: always
      type: dict
      contains:
        schema_version:
          description: Version of this structure; it changes when a key changes its meaning.
          returned: always
          type: int
          sample: 1
        host:
          description: The host's C(name) in the inventory, its C(kernel_release), C(architecture), C(distribution) and C(python).
          returned: always
          type: dict
        runtimes:
          description: >-
            Kata's runtimes - C(id) (real path of the base file), C(handlers), C(runtime) (V(go) or V(rs)), C(release), C(config), C(config_dir), effective
            C(values) and their C(sources), C(problems), C(drop_in) (whether a drop-in is safe there), C(engine) (what it asks for, and what a sandbox
            that starts now gets), and C(proof) (the options of M(kataops.aio.kata_aio_proof) that play its requests).
          returned: always
          type: list
          elements: dict
        qemus:
          description: The QEMU binaries, as RV(kataops.aio.qemu_aio_info#module:qemus).
          returned: always
          type: list
          elements: dict
        kernel:
          description: Limits and switches, as RV(kataops.aio.libaio_info#module:kernel).
          returned: always
          type: dict
        libaio:
          description: libaio on the host, as RV(kataops.aio.libaio_info#module:libaio).
          returned: always
          type: dict
        storage:
          description: The probed storage folders, as RV(kataops.aio.libaio_info#module:storage).
          returned: always
          type: list
          elements: dict
        sandboxes:
          description: >-
            Running QEMU processes of Kata - C(total), C(by_engine) (the engine that each really has, by the kernel's own traces), C(silent_fallbacks)
            (on threads although every runtime of that QEMU asks for another engine), C(processes).
          returned: always
          type: dict
        findings:
          description: What is wrong or worth knowing, each with C(id), C(severity), C(title), C(detail), C(why), C(remedy), C(where) and C(evidence).
          returned: always
          type: list
          elements: dict
        verdict:
          description: The worst verdict of the host's runtimes - V(ok), V(degraded), V(broken), V(unknown), or V(not_applicable) without Kata.
          returned: always
          type: str
        verdicts:
          description: The verdict of each runtime, by its C(id).
          returned: always
          type: dict
        plan:
          description: >-
            What remediation would do - C(needed), C(strategy), C(reasons), C(runtimes), C(qemu), C(engine), C(limits), C(settings), C(remaining)
            (runtimes that stay as they are, and why), C(prices) (what the repair costs), and the C(alternatives) that are
            tried in this order where the host refutes it.
          returned: always
          type: dict
"""

import os
import platform
import sys

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._host.kernel import observe_kernel, observe_storage
from ansible_collections.kataops.aio.plugins.module_utils._host.libaio import observe_libaio
from ansible_collections.kataops.aio.plugins.module_utils._host.trust import also_trust
from ansible_collections.kataops.aio.plugins.module_utils._kata.collect import collect
from ansible_collections.kataops.aio.plugins.module_utils._kata.sandboxes import observe_sandboxes
from ansible_collections.kataops.aio.plugins.module_utils._qemu.observe import observe_qemus

TREES = "/opt/kataops/qemu"
LEDGER = "/var/lib/kataops-aio"

#: Where distributions put their QEMU (RHEL's emulator is qemu-kvm, outside PATH).
DISTRIBUTION_QEMUS = ("/usr/bin/qemu-system-%s", "/usr/libexec/qemu-kvm")


def other_qemus():
    """QEMU binaries of this host that Kata could use instead: our trees, then the distribution's."""
    paths = []
    try:
        for tree in sorted(os.listdir(TREES)):
            paths.append(os.path.join(TREES, tree, "bin", "qemu-system-%s" % platform.machine()))
    except OSError:
        pass
    paths += [path % platform.machine() if "%" in path else path for path in DISTRIBUTION_QEMUS]
    return [path for path in paths if os.access(path, os.X_OK)]


def lacks_an_engine(qemu):
    """Whether a binary leaves a reason to look for another one."""
    return any(qemu["engines"][engine]["compiled"] is not True for engine in ("native", "io_uring")) or bool(qemu["firmware"]["missing"])


def distribution():
    """PRETTY_NAME of os-release, or None."""
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            with open(path, encoding="utf-8", errors="replace") as stream:
                for line in stream:
                    if line.startswith("PRETTY_NAME="):
                        return line.split("=", 1)[1].strip().strip("\"'")
        except OSError:
            continue
    return None


def changed_by_us():
    """What the journal says of our changes that still stand, by file and runtime id: Kata's release at that time, and the engine that was wanted
    where another one was set. Empty without a journal."""
    releases, wanted = {}, {}
    if not os.path.isdir(LEDGER):
        return {"changed_by_us": {}, "fell_back": {}}
    # Only now, because hosts without a journal need not compile it
    from ansible_collections.kataops.aio.plugins.module_utils._change.journal import Journal

    try:
        for (_kind, path), (_entry, change) in Journal(LEDGER).standing().items():
            runtimes = change["info"].get("runtimes", [])
            releases[path] = {runtime["id"]: runtime.get("release") for runtime in runtimes}
            wanted[path] = {runtime["id"]: runtime["requested_engine"] for runtime in runtimes if runtime.get("requested_engine")}
    except (AioError, OSError):
        return {"changed_by_us": {}, "fell_back": {}}  # kata_config says what is wrong with its journal; an audit needs it only for remarks
    return {"changed_by_us": releases, "fell_back": wanted}


def observe(params):
    """All observations of the host, as plain data."""
    kata = collect(extra_files=params["containerd_configs"])
    named = list(kata["qemu_paths"]) + [path for path in params["binaries"] if path not in kata["qemu_paths"]]
    settings = {"storage_path": params["storage_path"], "timeout": params["timeout"], "run": params["observe_qemu"]}
    qemus = observe_qemus(named, **settings)
    if any(lacks_an_engine(qemu) for qemu in qemus):
        known = {name for qemu in qemus for name in qemu["names"]}
        qemus += observe_qemus([path for path in other_qemus() if path not in known], **settings)
    return {
        **changed_by_us(),
        "host": {
            "kernel_release": platform.release(),
            "architecture": platform.machine(),
            "distribution": distribution(),
            "python": "%d.%d.%d" % sys.version_info[:3],
        },
        "kata": kata,
        "qemus": qemus,
        "kernel": observe_kernel(),
        "libaio": observe_libaio(),
        "storage": observe_storage([params["storage_path"]]),
        "sandboxes": observe_sandboxes(),
    }


def main():
    module = AnsibleModule(
        argument_spec={
            "engine": {"type": "str", "choices": ["auto", "native", "io_uring", "threads"], "default": "auto"},
            "storage_path": {"type": "path", "default": "/var/lib/containerd"},
            "headroom": {"type": "int", "default": 128},
            "aio_max_nr": {"type": "int", "default": 1048576},
            "strategies": {
                "type": "list",
                "elements": "str",
                "choices": ["configuration", "reuse", "replace", "rebuild"],
                "default": ["configuration", "reuse", "replace", "rebuild"],
            },
            "allow_fallback": {"type": "bool", "default": False},
            "artifact": {"type": "str"},
            "artifact_sha256": {"type": "str"},
            "package": {"type": "bool", "default": False},
            "method": {"type": "str", "choices": ["auto", "drop_in", "base_file"], "default": "auto"},
            "exclude": {"type": "list", "elements": "str", "default": []},
            "containerd_configs": {"type": "list", "elements": "path", "default": []},
            "binaries": {"type": "list", "elements": "path", "default": []},
            "timeout": {"type": "int", "default": 10},
            "trusted_owners": {"type": "list", "elements": "str", "default": []},
            "observe_qemu": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    also_trust(module.params["trusted_owners"])
    try:
        observations = observe(module.params)
    except AioError as exc:
        module.fail_json(**exc.as_failure())
    # The action plugin turns this into the judged facts; it needs the module's own defaults for the policy.
    module.exit_json(ansible_facts={"kata_aio": observations}, policy=module.params)


if __name__ == "__main__":
    main()

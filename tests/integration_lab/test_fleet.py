# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways to run at scale, on disposable hosts whose fault is repaired by configuration alone: hooks, slices side by side, ansible-pull.

Needs KATAOPS_LAB_QEMUS (a folder with static-both) and the lab's tools.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from release_tarball import kata_static

TOP = Path(__file__).resolve().parents[2]
EXAMPLES = TOP / "docs" / "examples"
LAB = TOP / "tests" / "lab" / "lab"
QEMUS = Path(os.environ.get("KATAOPS_LAB_QEMUS", "/nonexistent"))
QEMU = QEMUS / "static-both"
HOSTS = ("fleet1", "fleet2", "fleet3")
CONFIG = "/opt/kata/share/defaults/kata-containers"
pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(not QEMU.exists(), reason="KATAOPS_LAB_QEMUS has not got static-both"),
]

# The Go runtime needs cache.direct for native AIO; the configuration lost the keys, or never had them. The QEMU is good.
BREAK = """
set -e
cat >/opt/kata/bin/new && chmod 755 /opt/kata/bin/new && mv /opt/kata/bin/new /opt/kata/bin/qemu-system-x86_64
rm -rf %(config)s/config.d /var/lib/kataops-aio
sed -i '/^block_device_cache_/d' %(config)s/configuration-qemu.toml
""" % {"config": CONFIG}


def on(host, command, **more):
    return subprocess.run([LAB, "ssh", host, command], check=True, stdout=subprocess.PIPE, text=True, **more).stdout


@pytest.fixture(scope="module")
def hosts():
    """The inventory of three hosts that are up."""
    subprocess.run([LAB, "up", *HOSTS, "--fresh", "--plant", "kata-3.7.0-native"], check=True)
    try:
        yield json.loads(subprocess.run([LAB, "inventory", *HOSTS], check=True, stdout=subprocess.PIPE, text=True).stdout)["all"]["hosts"]
    finally:
        subprocess.run([LAB, "down", *HOSTS], check=False)


@pytest.fixture
def broken(hosts, tmp_path):
    """A working folder with the inventory of hosts on which native AIO is asked for and refused."""
    for host in HOSTS:
        with QEMU.open("rb") as binary:
            on(host, BREAK, stdin=binary)
    # The kernel's switches are the machine's: the default limit is enough for four sandboxes, so that no repair raises it
    (tmp_path / "inventory.json").write_text(json.dumps({"all": {"hosts": hosts, "vars": {"kata_aio_headroom": 4, "kata_aio_strategies": ["configuration"]}}}))
    return tmp_path


def environment(folder, **more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_") or name == "ANSIBLE_COLLECTIONS_PATH"}
    path = "%s%s%s" % (Path(sys.executable).parent, os.pathsep, os.environ["PATH"])
    return {**kept, "PATH": path, "ANSIBLE_HOME": str(folder), "ANSIBLE_PIPELINING": "1", "CI": "1", **more}


def playbook(folder, name, *arguments, **more):
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "inventory.json", "kataops.aio." + name, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment(folder, **more), capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    return done.stdout


# --- hooks ---

KUBECTL = """#!%(python)s
import json, os, sys
state_file, log = os.environ["NODES"], os.environ["KUBECTL_LOG"]
words = sys.argv[1:]
nodes = json.load(open(state_file))
with open(log, "a") as stream:
    stream.write(" ".join(words) + "\\n")
verb = words[0]
if verb == "get":
    print(json.dumps(nodes[words[2]]))
elif verb in ("cordon", "uncordon"):
    nodes[words[1]]["spec"]["unschedulable"] = verb == "cordon"
elif verb == "annotate":
    notes = nodes[words[2]]["metadata"].setdefault("annotations", {})
    if words[3].endswith("-"):
        del notes[words[3][:-1]]
    else:
        key, value = words[3].split("=")
        notes[key] = value
elif verb == "wait":
    if nodes[words[-1].split("/")[1]]["spec"].get("unschedulable") and words[-1] != "node/node-fleet3":
        sys.exit("still cordoned")
else:
    sys.exit("unknown verb")
json.dump(nodes, open(state_file, "w"))
"""


def test_hooks_run_in_order_and_a_node_is_uncordoned_again(broken):
    """kubectl is a placeholder host that keeps the nodes' state in a file and notes each call."""
    (broken / "bin").mkdir()
    (broken / "bin" / "kubectl").write_text(KUBECTL % {"python": sys.executable})
    (broken / "bin" / "kubectl").chmod(0o755)
    nodes = {"node-" + host: {"metadata": {}, "spec": {}} for host in HOSTS}
    nodes["node-fleet3"]["spec"]["unschedulable"] = True  # by somebody else
    (broken / "nodes.json").write_text(json.dumps(nodes))
    mark = "- ansible.builtin.command: {argv: [kubectl, get, node, node-fleet1, %s]}\n  delegate_to: localhost\n  become: false\n  changed_when: false\n"
    (broken / "before_wave.yml").write_text(mark % "before-wave")
    hooks = {
        "kube_node": "node-{{ inventory_hostname }}",
        "kata_aio_before_wave": [str(broken / "before_wave.yml")],
        "kata_aio_before_host": [str(EXAMPLES / "hooks" / "cordon.yml")],
        "kata_aio_after_host": [str(EXAMPLES / "hooks" / "uncordon.yml")],
        "kata_aio_after_wave": [str(EXAMPLES / "hooks" / "ready.yml")],
    }
    # A variable of the inventory, as it may be one
    inventory = json.loads((broken / "inventory.json").read_text())
    inventory["all"]["vars"]["kata_aio_waves"] = [1, 2]
    (broken / "inventory.json").write_text(json.dumps(inventory))
    more = {"NODES": str(broken / "nodes.json"), "KUBECTL_LOG": str(broken / "log")}
    # One host at a time on the controller, so that the placeholder host's file has one writer
    more["PATH"] = "%s%s%s" % (broken / "bin", os.pathsep, environment(broken)["PATH"])
    text = playbook(broken, "remediate", "-f", "1", "-e", json.dumps(hooks), **more)
    calls = (broken / "log").read_text().splitlines()
    first_wave = [
        "get node node-fleet1 before-wave",
        "get node node-fleet1 --output=json",
        "annotate node node-fleet1 kataops.aio/cordoned=true",
        "cordon node-fleet1",
        "get node node-fleet1 --output=json",
        "uncordon node-fleet1",
        "annotate node node-fleet1 kataops.aio/cordoned-",
        "wait --for=condition=Ready --timeout=120s node/node-fleet1",
    ]
    assert calls[: len(first_wave)] == first_wave, "\n".join(calls)
    second_wave = calls[len(first_wave) :]
    assert second_wave[0] == "get node node-fleet1 before-wave"
    assert [call for call in second_wave[1:] if "fleet2" in call] == [call.replace("fleet1", "fleet2") for call in first_wave[1:]]
    # The node that somebody else had cordoned is looked at, and left as it was
    assert [call.split()[0] for call in second_wave[1:] if "fleet3" in call] == ["get", "get", "wait"]
    assert second_wave[-2:] == ["wait --for=condition=Ready --timeout=120s node/node-%s" % host for host in ("fleet2", "fleet3")]
    after = json.loads((broken / "nodes.json").read_text())
    assert [after["node-" + host]["spec"].get("unschedulable") for host in HOSTS] == [False, False, True]
    assert text.index("TASK [cordon | Cordon the node]") < text.index("TASK [Switch | ") < text.index("TASK [uncordon | Uncordon")


# --- slices ---


def slices(folder, *arguments):
    """Two slices of remediate side by side, as the example runs them: what each handed on, and the events of each."""
    pytest.importorskip("ansible_runner")
    command = [sys.executable, EXAMPLES / "slices.py", "-i", "inventory.json", "--slices", "2", "--work", "work", "kataops.aio.remediate", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    events = []
    for number in (1, 2):
        [artifacts] = (folder / "work" / ("slice-%d" % number) / "artifacts").iterdir()
        events.append([json.loads(path.read_text()) for path in (artifacts / "job_events").glob("*.json")])
    return [json.loads(line) for line in done.stdout.splitlines()], events


def test_slices_side_by_side(broken):
    told, events = slices(broken)
    assert [one["hosts"] for one in told] == [["fleet1", "fleet3"], ["fleet2"]]
    assert [one["verdicts"]["ok"] for one in told] == [2, 1]
    for number, hosts in ((1, 2), (2, 1)):
        report = json.loads((broken / "work" / ("slice-%d" % number) / "report" / "kata-aio-report.json").read_text())
        assert report["totals"]["outcomes"]["repaired"] == hosts
    # Side by side: each had started before the other ended
    (start, end), (other_start, other_end) = ((min(of_slice), max(of_slice)) for of_slice in ([event["created"] for event in part] for part in events))
    assert start < other_end and other_start < end


def test_slices_make_one_artifact(broken):
    """Their hosts need the same QEMU out of a Kata release, which is not there yet; each slice has a builder of its own."""
    with (QEMUS / "static-none").open("rb") as binary:
        without_aio = binary.read()
    for host in HOSTS:
        subprocess.run([LAB, "ssh", host, BREAK], check=True, input=without_aio)
    release = kata_static(broken, QEMUS, "static-both", ["xz", "-0"])
    wanted = {"kata_aio_strategies": ["replace"], "kata_aio_artifact": str(release), "kata_aio_artifacts_dir": str(broken / "made")}
    told, events = slices(broken, "-e", json.dumps(wanted))
    assert [one["verdicts"]["ok"] for one in told] == [2, 1]
    results = [event["event_data"] for part in events for event in part if event["event"] == "runner_on_ok"]
    changed = [one["host"] for one in results if one["task_action"] == "kataops.aio.qemu_build" and one["res"]["changed"]]
    assert len(changed) == 1, changed
    assert len(list((broken / "made").glob("*.tar.xz"))) == 1
    installed = [one["host"] for one in results if one["task_action"] == "kataops.aio.qemu_tree" and one["res"]["changed"]]
    assert sorted(installed) == list(HOSTS)


# --- ansible-pull ---


def test_a_host_pulls_and_repairs_itself(tmp_path):
    """A host with its distribution's git and ansible-core clones a repository that holds the collection and a wrapper, and repairs itself."""
    host = "fleet-pull"
    repository = tmp_path / "fleet"
    shutil.copytree(EXAMPLES / "pull", repository)
    collection = repository / "collections" / "ansible_collections" / "kataops" / "aio"
    collection.mkdir(parents=True)
    for name in ("galaxy.yml", "meta", "playbooks", "plugins", "roles"):
        source = TOP / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, collection / name)
    git = ["git", "-c", "user.name=ops", "-c", "user.email=ops@host.example", "-C", str(repository)]
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "Kata AIO"]):
        subprocess.run([*git, *words], check=True)
    archive = subprocess.run(["tar", "-C", tmp_path, "--owner=0", "--group=0", "-c", "fleet"], check=True, stdout=subprocess.PIPE).stdout
    # Debian 13: the first whose ansible-core is new enough
    subprocess.run([LAB, "up", host, "--fresh", "--suite", "trixie", "--plant", "kata-3.7.0-native"], check=True)
    try:
        with QEMU.open("rb") as binary:
            on(host, BREAK, stdin=binary)
        subprocess.run([LAB, "ssh", host, "tar -x -C /srv"], input=archive, check=True)
        on(host, "apt-get -qq update && apt-get -qq install -y --no-install-recommends git ansible-core python3-tomlkit python3-jmespath >/dev/null")
        pull = "ansible-pull -U file:///srv/fleet -C main -i hosts pull.yml -e kata_aio_headroom=4 -e '{kata_aio_strategies: [configuration]}' 2>&1"
        first, second = on(host, pull), on(host, pull)
    finally:
        subprocess.run([LAB, "down", host], check=False)
    assert "1 repaired" in first, first
    assert "1 nothing to do" in second and "changed=0" in second.rsplit("PLAY RECAP", 1)[1], second


# --- one bad handler ---

STALE = """
cat >>/etc/containerd/config.toml <<'END'
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata-debug]
  runtime_type = "io.containerd.kata-debug.v2"
  runtime_path = "/opt/kata/bin/containerd-shim-kata-v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata-debug.options]
    ConfigPath = "/opt/kata/share/defaults/kata-containers/custom-runtimes/debug/configuration-qemu.toml"
END
"""


def test_one_bad_handler_does_not_keep_a_host_from_being_repaired(broken):
    """A handler whose configuration an upgrade removed is named; the other is repaired and proved, the rollout goes on, and the exit status is bad."""
    host = HOSTS[0]
    kept = on(host, "cat /etc/containerd/config.toml")
    try:
        on(host, STALE)
        command = [sys.executable, "-m", "ansible", "playbook", "-i", "inventory.json", "kataops.aio.remediate", "--limit", host]
        done = subprocess.run(command, cwd=broken, env=environment(broken), capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 2, done.stdout[-6000:] + done.stderr
        assert "(kata-debug) stays as it is: " in done.stdout
        assert "the price on %s: File-backed volumes" % host in done.stdout
        (entry,) = json.loads((broken / "kata-aio-report" / "kata-aio-report.json").read_text())["hosts"]
        assert (entry["outcome"], entry["verdict"], entry["error"]) == ("partly_repaired", "broken", None)
        assert {runtime["verdict"] for runtime in entry["after"]["runtimes"] if "kata-qemu" in runtime["handlers"]} == {"ok"}
        left_out = playbook(broken, "remediate", "--limit", host, "-e", '{"kata_aio_exclude": ["kata-debug"]}')
        assert "1 runtime is left out by kata_aio_exclude" in left_out
        assert "changed=0" in left_out
    finally:
        subprocess.run([LAB, "ssh", host, "cat >/etc/containerd/config.toml"], input=kept, check=True, text=True)

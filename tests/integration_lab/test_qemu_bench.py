# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real QEMUs measured on this machine's storage. Numbers depend on the machine, so what is tested is what a measurement means: which engines run, that
the kernel shows the engine that was measured, that threads and native differ in CPU, that refusals and silent fall-backs are told, and that nothing stays.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._qemu.bench import MIB, bench
from kernel_switches import DISABLED, MAX_NR, NR
from real_qemus import binary_named

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="turns kernel switches and mounts: needs root")]

QUICK = {"storage_path": "/var/lib", "size": 32 * MIB, "seconds": 0.2, "rounds": 3, "timeout": 60}
COLLECTION = Path(__file__).resolve().parents[2]


def measure(name, tmp_path, **options):
    return bench(binary_named(name, tmp_path), **dict(QUICK, **options))["engines"]


@pytest.mark.parametrize("name", ["static-both", "debian13", "newest"])
def test_all_engines(switches, name, tmp_path):
    engines = measure(name, tmp_path)
    for engine, one in engines.items():
        assert (one["ran"], one["observed"], one["reason"]) == (True, engine, None)
        for direction in ("write", "read"):
            assert one[direction]["requests_per_second"] * 65536 <= one[direction]["bytes_per_second"]
            assert one[direction]["cpu_us_per_request"] > 0
    # Measured 0.3 to 0.4 here, on an idle and on a busy machine: without a thread's wake-up per request it has to be less.
    assert engines["native"]["read"]["cpu_ratio"] < 0.8


def test_a_qemu_without_engines_is_measured_with_threads_alone(tmp_path):
    engines = measure("static-none", tmp_path)
    assert [engines[name]["ran"] for name in ("threads", "native", "io_uring")] == [True, False, False]
    assert {engines[name]["reason"] for name in ("native", "io_uring")} == {"this QEMU was built without it"}
    assert engines["threads"]["write"]["cpu_ratio"] == 1


def test_a_refusal_of_the_kernel_is_told(switches, tmp_path):
    switches(DISABLED, 2)
    engines = measure("static-both", tmp_path)
    assert [engines[name]["ran"] for name in ("threads", "native", "io_uring")] == [True, True, False]
    assert engines["io_uring"]["reason"] == "the kernel refuses io_uring_setup(2)"


def test_a_silent_fall_back_is_no_measurement_of_io_uring(switches, tmp_path):
    switches(DISABLED, 2)
    one = measure("debian13", tmp_path)["io_uring"]
    assert (one["ran"], one["observed"]) == (True, "threads")
    assert one["reason"].startswith("QEMU accepts io_uring but uses threads in silence: ")


def test_the_last_aio_contexts_are_left_to_sandboxes(switches, tmp_path):
    # The kernel may still be giving free what the test before used
    switches(MAX_NR, int(NR.read_text()) + 2 * 1024 + 512)
    engines = measure("static-both", tmp_path)
    assert [engines[name]["ran"] for name in ("threads", "native", "io_uring")] == [True, False, True]
    assert re.fullmatch(r"only \d AIO contexts are free under fs\.aio-max-nr; they are left to sandboxes", engines["native"]["reason"])


def test_storage_without_direct_is_told(tmp_path):
    folder = tmp_path / "ramfs"
    folder.mkdir()
    subprocess.run(["mount", "-t", "ramfs", "ramfs", str(folder)], check=True)
    try:
        with pytest.raises(AioError):
            # ramfs tells no free space, so nothing may be written there
            measure("static-both", tmp_path, storage_path=str(folder))
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_nothing_stays_when_it_is_killed(tmp_path):
    binary = binary_named("static-both", tmp_path)
    code = "from ansible_collections.kataops.aio.plugins.module_utils._qemu.bench import bench; bench(%r, storage_path=%r, size=2**25, seconds=60)"
    tree = tmp_path / "tree" / "ansible_collections" / "kataops"
    tree.mkdir(parents=True)
    (tree / "aio").symlink_to(COLLECTION)
    storage = tmp_path / "storage"
    storage.mkdir()
    process = subprocess.Popen([sys.executable, "-c", code % (binary, str(storage))], env=dict(os.environ, PYTHONPATH=str(tmp_path / "tree")))

    def running():
        return [pid for pid in filter(str.isdigit, os.listdir("/proc")) if _exe(pid) == os.path.realpath(binary)]

    end = time.monotonic() + 60
    while not running():
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    end = time.monotonic() + 30
    while running():
        assert time.monotonic() < end, "QEMU outlived the module"
        time.sleep(0.1)
    assert not list(storage.iterdir())


def _exe(pid):
    try:
        return os.readlink("/proc/%s/exe" % pid)
    except OSError:
        return None


# --- the playbook ---

HOSTS = ("bench-both", "bench-none", "bench-plain")
LAB = COLLECTION / "tests" / "lab" / "lab"


@pytest.fixture(scope="module")
def inventory(tmp_path_factory):
    """A host whose QEMU has all engines, one whose QEMU has none, and one without Kata."""
    subprocess.run([LAB, "up", *HOSTS, "--fresh"], check=True)
    try:
        subprocess.run([LAB, "plant", "kata-3.7.0-native", *HOSTS[:2]], check=True)
        command = "cat >/opt/kata/bin/new && chmod 755 /opt/kata/bin/new && mv /opt/kata/bin/new /opt/kata/bin/qemu-system-x86_64"
        with open(binary_named("static-both", None), "rb") as binary:
            subprocess.run([LAB, "ssh", HOSTS[0], command], check=True, stdin=binary)
        folder = tmp_path_factory.mktemp("benchmark")
        listed = subprocess.run([LAB, "inventory", *HOSTS], check=True, stdout=subprocess.PIPE, text=True).stdout
        (folder / "inventory.json").write_text(listed)
        yield folder / "inventory.json"
    finally:
        subprocess.run([LAB, "down", *HOSTS], check=False)


def playbook(inventory, *arguments, **variables):
    report = inventory.parent / "report"
    shutil.rmtree(report, ignore_errors=True)
    variables = {"kata_aio_report_dir": str(report), "kata_aio_bench_size": 16, "kata_aio_bench_seconds": 1, **variables}
    command = [sys.executable, "-m", "ansible", "playbook", "-i", inventory, "kataops.aio.benchmark", "-e", json.dumps(variables), *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_") or name == "ANSIBLE_COLLECTIONS_PATH"}
    environment.update(ANSIBLE_HOME=str(inventory.parent), ANSIBLE_PIPELINING="1", CI="1")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False, stdin=subprocess.DEVNULL)
    file = report / "kata-aio-benchmark.json"
    return done, {entry["host"]: entry for entry in json.loads(file.read_text())["hosts"]} if file.exists() else None


def test_playbook_measures_each_host_and_leaves_out_those_without_kata(inventory):
    done, hosts = playbook(inventory)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed=0" in done.stdout and "changed=1" not in done.stdout
    assert list(hosts) == list(HOSTS[:2])
    both, none = ([one["engines"] for one in hosts[name]["benchmarks"]] for name in HOSTS[:2])
    assert [engine["observed"] for engine in both[0].values()] == ["threads", "native", "io_uring"]
    assert [engine["ran"] for engine in none[0].values()] == [True, False, False]
    assert "  native    - this QEMU was built without it" in done.stdout


def test_playbook_tells_a_host_that_could_not_be_measured(inventory):
    done, hosts = playbook(inventory, "--limit", HOSTS[0], kata_aio_bench_size=2**24)
    assert done.returncode == 2
    assert re.search(r"%s +: .*failed=1 " % HOSTS[0], done.stdout), done.stdout
    assert "too few for a test file of 16777216 MiB" in hosts[HOSTS[0]]["reason"]
    assert "Traceback" not in done.stdout + done.stderr


def test_playbook_measures_nothing_in_check_mode(inventory):
    done, hosts = playbook(inventory, "--check", "--limit", HOSTS[0])
    assert done.returncode == 0, done.stdout + done.stderr
    assert hosts[HOSTS[0]]["benchmarks"] == [] and "check mode" in hosts[HOSTS[0]]["reason"]


def test_playbook_refuses_a_wrong_variable_before_any_host_is_touched(inventory):
    done, hosts = playbook(inventory, kata_aio_bench_sise=1)
    assert done.returncode == 2 and hosts is None
    assert "did you mean kata_aio_bench_size?" in done.stdout

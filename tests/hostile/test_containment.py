# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a probed program starts is gone when the module is, however either of them ends; and it has neither network nor privileges to gain."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._host import command, guard
from ansible_collections.kataops.aio.plugins.module_utils._host.child import Child
from ansible_collections.kataops.aio.plugins.module_utils._host.guard import Guard
from ansible_collections.kataops.aio.tests.hostile.attack import alone, program, sleepers, wait_for

_numbers = itertools.count(720000 + os.getpid() % 1000 * 10)

ESCAPES = {
    "a session of its own, an empty environment": "#!/bin/sh\nsetsid env -i /bin/sleep %d </dev/null >/dev/null 2>&1 &\n",
    "forked twice": "#!/bin/sh\n(setsid /bin/sleep %d </dev/null >/dev/null 2>&1 &) &\n",
    "many": "#!/bin/sh\ni=0; while [ $i -lt 40 ]; do setsid env -i /bin/sleep %d </dev/null >/dev/null 2>&1 & i=$((i+1)); done\n",
    "stopped": "#!/bin/sh\nsetsid sh -c 'kill -STOP $$; exec sleep %d' </dev/null >/dev/null 2>&1 &\n",
    "deaf to signals": "#!/bin/sh\ntrap '' TERM HUP INT; setsid sh -c 'trap \"\" TERM HUP INT; sleep %d; sleep 9' </dev/null >/dev/null 2>&1 &\n",
    "forks on and on": "#!/bin/sh\nsetsid sh -c 'while :; do sleep %d & /bin/true; done' </dev/null >/dev/null 2>&1 &\nsleep 0.3\n",
    "holds the pipe": "#!/bin/sh\nsetsid env -i /bin/sleep %d &\nsleep 0.2\n",
}


@pytest.fixture(params=["namespace", "subreaper"])
def kind(request, monkeypatch):
    """Both ways in which a guard keeps hold of what it starts: as process 1 of a process namespace, and as a subreaper where root may make none."""
    if request.param == "namespace" and os.geteuid() != 0:
        pytest.skip("only root makes process namespaces")
    if request.param == "subreaper":
        monkeypatch.setattr(guard, "_own_process_namespace", lambda: None)
    return request.param


@pytest.mark.parametrize("escape", ESCAPES)
def test_nothing_escapes(kind, escape, tmp_path):
    number = next(_numbers)
    path = program(tmp_path / "qemu", ESCAPES[escape] % number, os.geteuid())
    with Guard() as keeper:
        done = command.run([path], 1.5, guard=keeper)
    guard._reap()
    assert done.status in (0, None)
    assert sleepers(number) == []


MODULE = """
import sys, time
from ansible_collections.kataops.aio.plugins.module_utils._host import guard
if sys.argv[2] == "subreaper":
    guard._own_process_namespace = lambda: None
from ansible_collections.kataops.aio.plugins.module_utils._host.child import Child
with guard.Guard() as keeper:
    child = Child([sys.argv[1]], keeper, 600)
    print("started", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("escape", ["a session of its own, an empty environment", "many", "stopped"])
def test_nothing_survives_a_module_that_is_killed(kind, escape, number, tmp_path):
    import ansible_collections.kataops.aio as collection

    tree = next(iter(collection.__path__)).rsplit("/ansible_collections/", 1)[0]
    seconds = next(_numbers)
    path = program(tmp_path / "qemu", ESCAPES[escape] % seconds + "sleep 1000\n", os.geteuid())
    module = subprocess.Popen([sys.executable, "-c", MODULE, path, kind], env=dict(os.environ, PYTHONPATH=tree), stdout=subprocess.PIPE)
    assert module.stdout.readline() == b"started\n"
    if escape != "stopped":
        wait_for(lambda: sleepers(seconds))
    module.send_signal(number)
    module.wait()
    wait_for(lambda: not sleepers(seconds))
    assert module.stdout.read() == b""


def test_a_guard_that_is_killed_by_what_it_guards(tmp_path, monkeypatch):
    """Without a namespace a program of the same user can kill the guard: it is told as that program's end, and the next one has another guard."""
    monkeypatch.setattr(guard, "_own_process_namespace", lambda: None)
    number = next(_numbers)
    path = program(tmp_path / "qemu", "#!/bin/sh\nsetsid env -i /bin/sleep %d </dev/null >/dev/null 2>&1 &\nsleep 0.3\nkill -9 $PPID\nsleep 1000\n" % number)
    with Guard() as keeper:
        child = Child([path], keeper, 3)
        child.close_input()
        assert child.wait() in (None, -signal.SIGKILL)
        child.end()
        again = command.run(["/bin/echo", "on"], 10, guard=keeper)
    guard._reap()
    assert again.text == "on\n"
    assert sleepers(number) == []


def test_children_of_others_are_left_alone(kind):
    mine = subprocess.Popen(["sleep", str(next(_numbers))])
    with Guard() as keeper:
        assert command.run(["/bin/true"], 10, guard=keeper).status == 0
    guard._reap()
    assert mine.poll() is None
    mine.kill()
    assert mine.wait() == -signal.SIGKILL


def test_what_a_program_finds_around_it(kind):
    """No network but an unused loopback, no privileges to gain, no core file, a fixed environment, no descriptor of the module's."""
    os.environ["LD_LIBRARY_PATH"] = "/nowhere"
    script = "cat /proc/self/status; cat /proc/net/dev; ulimit -c; env; ls /proc/self/fd; pwd"
    try:
        with Guard() as keeper:
            text = command.run(["/bin/sh", "-c", script], 10, guard=keeper).text
    finally:
        del os.environ["LD_LIBRARY_PATH"]
    assert "NoNewPrivs:\t1" in text
    assert "LD_LIBRARY_PATH" not in text and "PATH=" + guard.PATH in text
    if os.geteuid() == 0:
        devices = [line.split(":")[0].strip() for line in text.splitlines() if line.count(":") == 1 and len(line.split()) > 10]
        assert devices == ["lo"]
    assert [int(line) for line in text.splitlines() if line.isdigit()] in ([0, 0, 1, 2, 3], [0, 0, 1, 2, 3, 4])
    assert text.splitlines()[-1] == "/"


def test_no_probe_finds_a_network_listener(as_root):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        call = [sys.executable, "-c", "import socket; socket.create_connection(('127.0.0.1', %d), 2)" % listener.getsockname()[1]]
        with Guard() as keeper:
            done = command.run(call, 20, guard=keeper)
        assert done.status == 1 and "nreachable" in done.words
        with Guard(confine=False) as keeper:
            done = command.run(call, 20, guard=keeper)
        assert done.status == 0, done.words


def test_the_modules_own_process_namespace_is_put_back():
    before = os.readlink("/proc/self/ns/pid_for_children")
    with Guard():
        assert os.readlink("/proc/self/ns/pid_for_children") == before
    guard._reap()
    assert subprocess.run(["true"], check=False).returncode == 0


def test_a_module_does_not_wait_long_for_its_guards():
    code = "from ansible_collections.kataops.aio.plugins.module_utils._host.guard import Guard\nfor n in range(5):\n    with Guard():\n        pass"
    _out, seconds, _memory = alone(code)
    assert seconds < 10

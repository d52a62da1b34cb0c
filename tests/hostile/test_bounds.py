# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a host has: no read without a limit, no wait without one, time in proportion to the text, and little memory."""

from __future__ import annotations

import os
import time

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._host import command, files
from ansible_collections.kataops.aio.plugins.module_utils._host.proc import read_file
from ansible_collections.kataops.aio.plugins.module_utils._host.sysctl import parse
from ansible_collections.kataops.aio.plugins.module_utils._host.trust import names_in_script
from ansible_collections.kataops.aio.plugins.module_utils._kata import hints
from ansible_collections.kataops.aio.plugins.module_utils._kata.files import Tree, strip_text
from ansible_collections.kataops.aio.plugins.module_utils._kata.sandbox_process import count_aio_contexts, parse_cmdline, read_arguments
from ansible_collections.kataops.aio.plugins.module_utils._kata.shims import run_version
from ansible_collections.kataops.aio.plugins.module_utils._qemu import engines
from ansible_collections.kataops.aio.plugins.module_utils._qemu.failure import useful_words
from ansible_collections.kataops.aio.plugins.module_utils._qemu.proof import _FIRMWARE
from ansible_collections.kataops.aio.plugins.module_utils._qemu.qmp import QmpReader
from ansible_collections.kataops.aio.plugins.module_utils._qemu.requirements import absent_devices
from ansible_collections.kataops.aio.plugins.module_utils._qemu.wrapper import parse_wrapper
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.cri import _TEMPLATE_LINE
from ansible_collections.kataops.aio.tests.hostile.attack import alone, program
from hypothesis import given
from hypothesis import strategies as st

FLOODS = {
    "stdout": "#!/bin/sh\nexec yes\n",
    "stderr": "#!/bin/sh\nexec yes >&2\n",
    "stderr with stdout closed": "#!/bin/sh\nexec 1>&-\nexec yes >&2\n",
    "one line": "#!/bin/sh\nexec cat /dev/zero\n",
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_commands_output_is_bounded_while_it_is_read(tmp_path, flood):
    """A shim that printed without end took 2 GB of the managed node's memory."""
    path = program(tmp_path / "shim", FLOODS[flood], os.geteuid())
    code = "import sys\nfrom ansible_collections.kataops.aio.plugins.module_utils._kata.shims import run_version\nprint(run_version(sys.argv[1]))"
    text, seconds, memory = alone(code, path)
    assert text == "None"
    assert memory < 100 and seconds < 15, (memory, seconds)


def test_a_command_that_hangs_is_ended(tmp_path):
    began = time.monotonic()
    assert run_version(program(tmp_path / "shim", "#!/bin/sh\ntrap '' TERM; while :; do sleep 1; done\n", os.geteuid())) is None
    assert time.monotonic() - began < 15


def test_a_missing_command_is_a_result():
    done = command.run(["no-such-command"], 1)
    assert (done.status, done.missing, done.problem) == (None, True, "there is no command no-such-command")
    assert command.run(["/no/such"], 1).missing


def test_the_modules_own_path_is_not_searched(tmp_path, monkeypatch):
    program(tmp_path / "ldconfig", "#!/bin/sh\necho mine\n", os.geteuid())
    monkeypatch.setenv("PATH", "%s:/usr/bin:/bin" % tmp_path)
    assert command.find("ldconfig") != str(tmp_path / "ldconfig")


@pytest.mark.parametrize("read", [lambda path: files.read_head(path, 10), lambda path: files.read_whole(path, 10)])
def test_only_regular_files_are_opened(tmp_path, read):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    for path in (tmp_path / "fifo", tmp_path / "link", tmp_path, "/dev/null", "/dev/tty"):
        with pytest.raises(OSError):
            read(str(path))
    assert read_file(str(tmp_path / "fifo")) is None
    assert Tree(tmp_path).head("/fifo", 4) == b""
    assert Tree(tmp_path).read("/fifo")[2] == "not a regular file (fifo)"


def test_a_file_is_read_to_its_limit(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 100)
    path = str(tmp_path / "file")
    assert files.read_head(path, 10) == b"x" * 10
    assert len(files.read_whole(path, 100)) == 100
    with pytest.raises(files.TooLarge):
        files.read_whole(path, 99)


def test_a_wrapper_whose_target_is_a_fifo(tmp_path):
    """It held the module for ever, and left it on the host as a process of root's."""
    os.mkfifo(tmp_path / "qemu-fifo")
    path = program(tmp_path / "qemu-wrap", '#!/bin/sh\nexec %s/qemu-fifo "$@"\n' % tmp_path, os.geteuid())
    code = (
        "import sys\nfrom ansible_collections.kataops.aio.plugins.module_utils._host import trust\ntrust.JUDGED_BELOW = sys.argv[2]\n"
        "from ansible_collections.kataops.aio.plugins.module_utils._qemu.observe import observe_qemus\n"
        "print(observe_qemus([sys.argv[1]], '/var/lib', 2)[0]['status'])"
    )
    status, seconds, _memory = alone(code, path, tmp_path)
    assert status != "answered" and seconds < 20


def test_a_huge_file_is_searched_for_a_moment_only(tmp_path):
    path = tmp_path / "qemu-system-x86_64"
    with open("/bin/true", "rb") as stream:
        path.write_bytes(stream.read())
    os.truncate(path, 200 << 30)
    code = (
        "import sys\nfrom ansible_collections.kataops.aio.plugins.module_utils._qemu.observe import observe_qemus\n"
        "print(observe_qemus([sys.argv[1]], '/var/lib', 5, run=False)[0]['status'])"
    )
    _status, seconds, memory = alone(code, path)
    assert seconds < 40 and memory < 150, (seconds, memory)


# --- patterns ---

# Each takes any text; a pattern that takes the square of a text's length needs minutes for the longest of these.
READERS = {
    "engines.meaning_of": lambda text: [engines.meaning_of(engine, text) for engine in engines.ENGINES],
    "engines.fallback_words": lambda text: engines.fallback_words(text, "native"),
    "engines.count_aio_contexts": engines.count_aio_contexts,
    "failure.useful_words": useful_words,
    "proof.firmware": _FIRMWARE.findall,
    "requirements.absent_devices": lambda text: absent_devices(text, "x86_64"),
    "wrapper": lambda text: parse_wrapper("#!/bin/sh\n" + text[: 64 * 1024]),
    "trust.names_in_script": lambda text: names_in_script(text.encode("utf-8", "replace")),
    "hints.strings": hints.strings,
    "hints.toml_paths": lambda text: hints.toml_paths(text, "/"),
    "hints.shim_paths": hints.shim_paths,
    "hints.shim_names": hints.shim_names,
    "hints.looks_like_kata": hints.looks_like_kata,
    "hints.qemu_paths": hints.qemu_paths,
    "hints.wrapper": lambda text: hints.wrapper(text[: 64 * 1024]),
    "hints.versions_yaml_qemu": hints.versions_yaml_qemu,
    "files.strip_text": lambda text: strip_text(text.encode("utf-8", "replace")),
    "sysctl.parse": lambda text: parse(text.encode("utf-8", "replace")),
    "sandbox_process.read_arguments": lambda text: read_arguments(parse_cmdline(text.replace(" ", "\0").encode("utf-8", "replace"))),
    "sandbox_process.count_aio_contexts": lambda text: count_aio_contexts(text.encode("utf-8", "replace")),
    "qmp": lambda text: feed(text.encode("utf-8", "replace")),
    "cri.template": lambda text: [_TEMPLATE_LINE.sub("", line) for line in text.split("\n")],
}
PARTS = (
    *(" ", "\t", "\n", "a", "/", "\\", '"', "'", "{", "}", "[", "]", "=", ",", "#", ".", ": ", "$x", "${x}", "x=$x;", "{{", "{%", "path="),
    *("{path='/x',", 'path = "', "aio=", "aio=x was specified", "driver requires '", "warning: nic ", "warning: global ", "falling back to "),
    *("failed to find romfile", "KATA_CONF_FILE=", "containerd-shim", "io.containerd.kata", "[hypervisor.qemu]", "hypervisor", "'''"),
    *("/[aio]", "-name sandbox-", "version: ", "export x=", '{"QMP"'),
)
LENGTH = 128 * 1024
MOST_SECONDS = 5  # a linear reader needs about a tenth of a second, a quadratic one minutes; this machine may be busy


def feed(data):
    reader = QmpReader()
    try:
        for start in range(0, len(data), 65536):
            reader.feed(data[start : start + 65536])
    except Exception as error:
        assert type(error).__name__ == "QmpError"


@pytest.mark.parametrize("reader", READERS)
@given(before=st.sampled_from(PARTS + ("",)), repeated=st.lists(st.sampled_from(PARTS), min_size=1, max_size=3), after=st.sampled_from(PARTS + ("",)))
def test_time_is_in_proportion_to_the_text(reader, before, repeated, after):
    unit = "".join(repeated)
    text = before + unit * (LENGTH // len(unit)) + after
    began = time.process_time()
    READERS[reader](text)
    assert time.process_time() - began < MOST_SECONDS


@pytest.mark.parametrize("reader", READERS)
@given(text=st.one_of(st.text(max_size=2000), st.lists(st.sampled_from(PARTS), max_size=60).map("".join)))
def test_any_text_is_read_without_a_fault(reader, text):
    READERS[reader](text)

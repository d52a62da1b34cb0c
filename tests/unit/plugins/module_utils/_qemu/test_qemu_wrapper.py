# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where shell wrappers lead, by their text."""

from __future__ import annotations

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._qemu import wrapper as _qemu_wrapper
from hypothesis import given, settings
from hypothesis import strategies as st

# (text, target, folders of -L); the first is the form that kata-deploy writes for an installation prefix.
WRAPPERS = [
    (
        '#!/usr/bin/env bash\n\nexec /host/opt/kata/bin/qemu-system-x86_64 "$@" -L /host/opt/kata/share/kata-qemu/qemu/\n',
        "/host/opt/kata/bin/qemu-system-x86_64",
        ["/host/opt/kata/share/kata-qemu/qemu/"],
    ),
    ('#!/bin/sh\nset -e\nREAL=/opt/kata/bin/qemu-system-x86_64\nexec "$REAL" -L /a -L/b "$@"\n', "/opt/kata/bin/qemu-system-x86_64", ["/a", "/b"]),
    ('#!/bin/sh\nprefix=/opt/kata; exec ${prefix}/bin/qemu-system-x86_64 \\\n  "$@"\n', "/opt/kata/bin/qemu-system-x86_64", []),
    ('#!/bin/sh\n/lib64/ld-linux-x86-64.so.2 --library-path /x/qemu /x/bin/qemu-system-x86_64 "$@"\n', "/x/bin/qemu-system-x86_64", []),
    ('#!/bin/sh\n# exec /old/qemu-system-x86_64 "$@"\nexec /usr/libexec/emulator "$@"\n', "/usr/libexec/emulator", []),
    ('#!/bin/sh\nexec "$(dirname "$0")/qemu-real" "$@"\n', None, []),
    ("#!/bin/sh\necho 'unbalanced\n", None, []),
    # What a line redirects to, or tells to another command, is no target.
    (
        '#!/bin/bash\nargs=("$@")\necho "$(date) ${args[*]}" >> /var/log/qemu-args.log\nexec /opt/kata/bin/qemu-real "${args[@]}" -L /fw\n',
        "/opt/kata/bin/qemu-real",
        ["/fw"],
    ),
    ('#!/bin/sh\n/usr/bin/logger -t qemu "$@"\n/opt/kata/bin/qemu-system-x86_64 "$@" 2>/tmp/qemu.err\n', "/opt/kata/bin/qemu-system-x86_64", []),
    ('#!/bin/sh\nmkdir -p /run/qemu && exec /x/qemu "$@" </dev/null >>/var/log/qemu 2>&1\n', "/x/qemu", []),
    # What runs another command
    ('#!/bin/sh\nexec env -u LD_PRELOAD LD_LIBRARY_PATH=/x/qemu/lib /x/bin/qemu-system-x86_64 "$@"\n', "/x/bin/qemu-system-x86_64", []),
    ('#!/bin/sh\nexec taskset -c 2-5 /x/qemu "$@"\n', "/x/qemu", []),
    ('#!/bin/sh\nexec numactl --membind=0 -N 0 nice -n 5 ionice -c2 -n0 /x/qemu "$@"\n', "/x/qemu", []),
    ('#!/bin/sh\nexec timeout -k 5 1h chrt --fifo 10 /x/qemu "$@"\n', "/x/qemu", []),
    ('#!/bin/sh\nLD_PRELOAD=/x/qemu.so /x/bin/qemu "$@"\n', "/x/bin/qemu", []),
    ('#!/bin/sh\nexport QEMU=/x/qemu\nexec -a qemu-system-x86_64 $QEMU "$@"\n', "/x/qemu", []),
    # The text does not tell which one is reached, or what is run.
    ('#!/bin/sh\nif [ -x /a/qemu ]; then\n  exec /a/qemu "$@"\nfi\nexec /b/qemu "$@"\n', None, []),
    ('#!/bin/sh\nif [ -n "$DEBUG" ]; then echo "$@" >&2; fi\nexec /b/qemu "$@"\n', "/b/qemu", []),
    ('#!/bin/sh\nexec "$(command -v qemu-system-x86_64)" "$@"\n', None, []),
    ('#!/bin/sh\nexec qemu-system-x86_64 "$@"\n', None, []),
    ("#!/bin/sh\n", None, []),
    ("", None, []),
]


@pytest.mark.parametrize(("text", "target", "folders"), WRAPPERS)
def test_where_a_wrapper_leads(text, target, folders):
    assert _qemu_wrapper.parse_wrapper(text) == (target, folders)


@settings(max_examples=1000, deadline=None)
@given(st.text(alphabet="#!/bin sh\n\\\"'$@{}=;&|execqemu-L`()\t\0é", max_size=200))
def test_any_script_is_parsed(text):
    target, folders = _qemu_wrapper.parse_wrapper(text)
    assert target is None or target.startswith("/")
    assert isinstance(folders, list)

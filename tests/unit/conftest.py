# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of all unit tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# The whole search runs once, on one Python. On the others (ansible-test runs those) and on a second ansible-core it is the code that has
# to be seen running, so a hundredth of the examples is enough.
FEW = 100
WHOLE_SEARCH = not ({"KATAOPS_FEW_EXAMPLES", "ANSIBLE_CONTROLLER_MIN_PYTHON_VERSION"} & set(os.environ))

# Time limits of single examples only measure how busy the machine is. Where one command decides over a change it has to decide the same way
# twice, so the examples are the same each time; --hypothesis-profile=hunt looks for new ones.
settings.register_profile("hunt", deadline=None)
settings.register_profile("kataops", deadline=None, derandomize=True)
settings.load_profile("kataops")


def pytest_collection_modifyitems(items):
    """Caps the examples of tests that ask for many."""
    if WHOLE_SEARCH:
        return
    for item in items:
        test = getattr(item, "obj", None)
        asked = getattr(test, "_hypothesis_internal_use_settings", None)
        if asked and asked.max_examples > FEW:
            test._hypothesis_internal_use_settings = settings(asked, max_examples=FEW)


@pytest.fixture(autouse=True)
def hosts_below_the_temporary_folder(tmp_path_factory, monkeypatch):
    """Tests play hosts in pytest's folder, which lies below a folder that everyone writes; what is above it is not judged."""
    from ansible_collections.kataops.aio.plugins.module_utils._host import trust  # importable only once pytest-ansible has set up the collection

    monkeypatch.setattr(trust, "JUDGED_BELOW", str(tmp_path_factory.getbasetemp()))

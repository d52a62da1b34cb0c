# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of the hostile suite, and its folders of root and of an ordinary user.

``--hypothesis-profile=hunt`` searches new inputs for each property, KATAOPS_HUNT of them (2000 by default); otherwise the same some hundred each time.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

SLOW = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]

settings.register_profile("hunt", deadline=None, max_examples=int(os.environ.get("KATAOPS_HUNT", "2000")), suppress_health_check=SLOW)
settings.register_profile(
    "kataops", deadline=None, derandomize=True, max_examples=20 if "KATAOPS_FEW_EXAMPLES" in os.environ else 150, suppress_health_check=SLOW
)
settings.load_profile("kataops")


@pytest.fixture
def as_root():
    """The attacks are on a module that runs as root."""
    if os.geteuid() != 0:
        pytest.skip("only root can play root and an ordinary user")


@pytest.fixture
def theirs(as_root):
    """A folder of the ordinary user that everyone can reach."""
    folder = Path(tempfile.mkdtemp(prefix="kataops-hostile-"))
    os.chown(folder, 65534, 65534)
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def ours(as_root):
    """A folder of root's, reached through folders of root's only."""
    folder = Path(tempfile.mkdtemp(prefix="kataops-hostile-", dir="/root" if os.path.isdir("/root") else "/"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)

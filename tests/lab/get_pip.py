"""Stand-in for get-pip.py, which ansible-test fetches for its environments: pip comes with Python, then from the package index."""

from __future__ import annotations

import subprocess
import sys

packages = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
# A process of its own: ensurepip hides pip's configuration (and with it the machine's certificates) from its own process
subprocess.check_call([sys.executable, "-m", "ensurepip", "--default-pip"], stdout=subprocess.DEVNULL)
subprocess.check_call([sys.executable, "-m", "pip", "install", "--quiet", *packages])

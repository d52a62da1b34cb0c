# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module on this very machine: its results and its documentation tell of the same keys and types."""

from __future__ import annotations

import json

import pytest
import yaml
from ansible_collections.kataops.aio.plugins.modules import libaio_info

TYPES = {"dict": dict, "list": list, "str": str, "int": int, "bool": bool}


@pytest.fixture
def run(monkeypatch):
    """Runs ``main()`` with parameters over the defaults; returns (what the module was made with, its result)."""

    def run(**parameters):
        made, result = {}, {}

        class Module:
            def __init__(self, **arguments):
                made.update(arguments)
                self.params = {name: parameters.get(name, spec["default"]) for name, spec in arguments["argument_spec"].items()}

            def exit_json(self, **values):
                result.update(values)

        monkeypatch.setattr(libaio_info, "AnsibleModule", Module)
        libaio_info.main()
        return made, result

    return run


def check(documented, value, where):
    """``value`` has exactly the documented keys, each of the documented type or None."""
    assert set(value) == set(documented), where
    for key, entry in documented.items():
        item = value[key]
        at = "%s.%s" % (where, key)
        assert item is None or isinstance(item, TYPES[entry["type"]]), at
        if item is not None and "contains" in entry:
            for one in item if entry["type"] == "list" else [item]:
                check(entry["contains"], one, at)


@pytest.mark.parametrize("parameters", [{}, {"user_probe": False}, {"storage_paths": ["/var/lib/containerd", "relative", "/etc/passwd"]}])
def test_results_are_as_documented(run, parameters):
    made, result = run(**parameters)
    assert made["supports_check_mode"] is True
    assert result.pop("changed") is False
    check(yaml.safe_load(libaio_info.RETURN), result, "RETURN")
    assert [entry["path"] for entry in result["storage"]] == parameters.get("storage_paths", [])
    json.dumps(result)


def test_options_are_as_documented(run):
    made, _result = run()
    documented = yaml.safe_load(libaio_info.DOCUMENTATION)["options"]
    assert {name: {key: spec[key] for key in spec} for name, spec in made["argument_spec"].items()} == {
        name: {key: option[key] for key in ("type", "elements", "default") if key in option} for name, option in documented.items()
    }


def test_examples_use_only_real_options(run):
    made, _result = run()
    used = set()
    for task in yaml.safe_load(libaio_info.EXAMPLES):
        used |= set(task.get("kataops.aio.libaio_info") or ())
    assert used and used <= set(made["argument_spec"])

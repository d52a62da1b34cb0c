# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reference pages are what the data says, and what is used is documented."""

from __future__ import annotations

import pathlib
import re

import pytest
import yaml
from ansible_collections.kataops.aio.docs import generate
from ansible_collections.kataops.aio.plugins.action.kata_aio_facts import VARIABLES
from ansible_collections.kataops.aio.plugins.doc_fragments.attributes import ModuleDocFragment
from ansible_collections.kataops.aio.plugins.modules import kata_aio_facts
from ansible_collections.kataops.aio.plugins.plugin_utils._judge.rules import RULES
from ansible_collections.kataops.aio.plugins.plugin_utils._kata import discover as _discover
from ansible_collections.kataops.aio.plugins.plugin_utils._kata import effective as _kata_toml
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.releases import QEMU_BUMPS
from ansible_collections.kataops.aio.plugins.plugin_utils._rollout.inputs import INPUTS, INTERNAL, problems

TOP = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", generate.PAGES)
def test_page_is_current(name):
    assert (TOP / "docs" / name).read_text(encoding="utf-8") == generate.PAGES[name](), "run `make docs`"


def test_rule_ids_are_unique_and_well_formed():
    ids = [rule.id for rule in RULES.values()]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"KAIO\d{3}", rule_id) for rule_id in ids)
    assert {rule.severity for rule in RULES.values()} == {"error", "warning", "info"}


def used_variables():
    """Every kata_aio_* variable that a playbook, a role or the action of kata_aio_facts reads, with the files that do."""
    used = {name: {"plugins/action/kata_aio_facts.py"} for name in VARIABLES.values()}
    for path in [*TOP.glob("playbooks/**/*.yml"), *TOP.glob("roles/**/*.yml")]:
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"(?<![\w.])kata_aio_\w+", re.sub(r"kataops\.aio\.\w+", "", text)):
            used.setdefault(name, set()).add(str(path.relative_to(TOP)))
    return used


def test_every_variable_that_is_used_is_documented():
    own = {"kata_aio_to_repair", "kata_aio_to_build", "kata_aio_failing"}  # groups that the playbooks make
    unknown = {name: files for name, files in used_variables().items() if name not in INPUTS and name not in INTERNAL and name not in own}
    assert not unknown


def test_every_option_that_a_variable_sets_is_one_of_the_module():
    documented = set(yaml.safe_load(kata_aio_facts.DOCUMENTATION)["options"]) | set(yaml.safe_load(ModuleDocFragment.TRUST)["options"])
    assert not set(VARIABLES) - documented


def test_every_documented_variable_is_used():
    assert not set(INPUTS) - set(used_variables())


def test_documented_defaults_pass_their_own_check():
    defaults = {name: yaml.safe_load(wanted.default) for name, wanted in INPUTS.items() if wanted.default is not None}
    assert problems(defaults) == []


def documented_codes(module):
    """The problem codes in the table of a module's docstring."""
    return set(re.findall(r"^``(\w+)``", module.__doc__, re.MULTILINE))


@pytest.mark.parametrize("module", [_kata_toml, _discover], ids=["_kata_toml", "_discover"])
def test_every_problem_code_has_a_rule(module):
    assert documented_codes(module)
    assert not documented_codes(module) - set(RULES)


def test_what_a_runtime_refuses_is_an_error():
    assert {code for code in _kata_toml.FATAL if RULES[code].severity != "error"} == set()


def test_the_qemu_of_each_kata_release_is_the_one_that_the_data_has():
    page = (TOP / "docs" / "strategies.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| (\d+\.\d+)\S*(?: to \S+|, \S+)? \| (\d+\.\d+\.\d+) \|$", page, re.MULTILINE)
    assert [(since + ".0", version) for since, version in table] == list(QEMU_BUMPS)

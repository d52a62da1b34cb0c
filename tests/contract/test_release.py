# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""galaxy.yml, the changelog and version_added name the same version, and the archive has what users need and nothing else."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import tarfile

import pytest
import yaml

TOP = pathlib.Path(__file__).resolve().parents[2]
# What an archive may have at its top; ansible-galaxy adds the first two
SHIPPED = {"MANIFEST.json", "FILES.json", "CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md", "bindep.txt"}
SHIPPED |= {"requirements.txt", "changelogs", "docs", "meta", "playbooks", "plugins", "roles"}


def number(version):
    return tuple(int(part) for part in str(version).split("."))


def loaded(path):
    return yaml.safe_load((TOP / path).read_text())


VERSION = loaded("galaxy.yml")["version"]
RELEASES = loaded("changelogs/changelog.yaml")["releases"]
FRAGMENTS = sorted((TOP / "changelogs" / "fragments").glob("*.yml"))


def documentation():
    """(where, the part of a documentation that may have version_added), for each plug-in, role and option."""
    for path in [*TOP.glob("plugins/modules/*.py"), *TOP.glob("plugins/callback/*.py"), *TOP.glob("plugins/lookup/*.py")]:
        text = path.read_text().partition('DOCUMENTATION = r"""')[2].partition('"""')[0]
        assert text, path
        yield from with_options(f"{path.parent.name}/{path.stem}", yaml.safe_load(text))
    for path in TOP.glob("roles/*/meta/argument_specs.yml"):
        for entry, spec in yaml.safe_load(path.read_text())["argument_specs"].items():
            yield from with_options(f"role {path.parts[-3]}, {entry}", spec)


def with_options(where, part):
    yield where, part
    for name, option in (part.get("options") or {}).items():
        yield from with_options(f"{where}: {name}", option)


def test_a_version_is_in_work_or_released():
    newest = max(RELEASES, key=number)
    if FRAGMENTS:
        assert number(VERSION) > number(newest), f"{len(FRAGMENTS)} changelog fragments wait for a release, but galaxy.yml still has {newest}"
    else:
        assert newest == VERSION


def test_nothing_was_added_by_a_version_to_come():
    late = [f"{where}: {part['version_added']}" for where, part in documentation() if number(part.get("version_added", "0")) > number(VERSION)]
    assert not late


def test_what_no_release_has_was_added_by_the_version_in_work():
    known = {f"modules/{one['name']}" for release in RELEASES.values() for one in release.get("modules", ())}
    known |= {f"{kind}/{one['name']}" for release in RELEASES.values() for kind, plugins in release.get("plugins", {}).items() for one in plugins}
    for where, part in documentation():
        if where.startswith("role ") or ":" in where:
            continue
        added = str(part["version_added"])
        assert (added in RELEASES) if where in known else (added == VERSION), f"{where}: version_added is {added}"


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """The files in the archive that ansible-galaxy makes of what git knows."""
    folder = tmp_path_factory.mktemp("archive")
    copy = folder / "copy"
    listed = subprocess.run(["git", "-C", TOP, "ls-files", "-z", "-co", "--exclude-standard"], capture_output=True, check=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (TOP / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((TOP / name).read_bytes())
    command = [pathlib.Path(sys.executable).with_name("ansible-galaxy"), "collection", "build", "--output-path", folder]
    subprocess.run(command, cwd=copy, check=True, capture_output=True)
    with tarfile.open(folder / f"kataops-aio-{VERSION}.tar.gz") as archive:
        return [member.name for member in archive.getmembers() if member.isfile()]


def test_the_archive_has_what_users_need_and_nothing_else(names):
    assert {name.split("/")[0] for name in names} == SHIPPED
    assert [name for name in names if name.startswith("changelogs/")] == ["changelogs/changelog.yaml"]
    assert not [name for name in names if "__pycache__" in name or name == "docs/generate.py"]
    assert {"playbooks/audit.yml", "playbooks/remediate.yml", "plugins/modules/kata_aio_facts.py", "meta/runtime.yml"} <= set(names)

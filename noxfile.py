# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gates that need no disposable host: `nox --list` names them, `nox -s lint` runs one.

Each session makes its environment below the cache and works on a copy of the files that git knows, in the folders that Ansible's own tools ask for.
What needs hosts or the kernel's switches (molecule, integration tests) is run by `make test`, which calls these sessions as well.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.reuse_venv = "yes"
nox.options.error_on_external_run = True
nox.options.error_on_missing_interpreters = False  # such a session is skipped, and says so
nox.options.sessions = ["lint", "types", "docs", "units-2.19", "sanity-2.19", "build"]

TOP = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("KATAOPS_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kataops-aio")
nox.options.envdir = str(CACHE / "nox")  # shared by all checkouts, so that a new clone makes nothing again
# Each supported ansible-core with the Python that runs it here
CORES = {"2.16": "3.11", "2.17": "3.11", "2.18": "3.11", "2.19": "3.11", "2.20": "3.12", "2.21": "3.13", "2.22": "3.13"}
DEFAULT = "2.19"
# Managed nodes: the newest core that still supports each Python there
NODES = {"3.8": "2.19", "3.9": "2.21", "3.10": "2.21", "3.12": "2.21", "3.13": "2.21"}
# 2.22 is not released: its pylint plug-ins come from a source archive that a package registry does not have
SKIPPED_TESTS = {"2.22": ["pylint"]}


def real_interpreters() -> Path:
    """A folder with the working interpreters, to stand before the shims that a version manager leaves on PATH: ansible-test and nox take the first name."""
    folder = TOP / ".cache" / "pybin"
    folder.mkdir(parents=True, exist_ok=True)
    listed = subprocess.run([TOP / "tests" / "lab" / "pythons"], capture_output=True, text=True, check=True).stdout
    for version, path in (line.split() for line in listed.splitlines()):
        link = folder / f"python{version}"
        if not link.is_symlink() or os.readlink(link) != path:
            link.unlink(missing_ok=True)
            link.symlink_to(path)
    return folder


os.environ["PATH"] = os.pathsep.join([str(real_interpreters()), os.environ["PATH"]])
os.environ["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"


def core_requirement(core: str) -> str:
    """A pre-release counts where nothing else is there yet."""
    return f"ansible-core~={core}.0rc0" if core == max(CORES, key=lambda name: tuple(map(int, name.split(".")))) else f"ansible-core~={core}.0"


def collection(session: nox.Session) -> Path:
    """A fresh copy of what git knows or would know, at .../ansible_collections/kataops/aio.

    It lies outside the checkout, as there ansible-test would take files that git ignores for the collection's.
    """
    name = hashlib.sha256(str(TOP).encode() + b"\0").hexdigest()[:12]  # as tests/runner.py names it, which reads what the sessions leave
    tree = CACHE / f"tree-{name}" / session.name
    session.chdir(TOP)  # a session may make its copy again
    shutil.rmtree(tree, ignore_errors=True)
    copy = tree / "ansible_collections" / "kataops" / "aio"
    listed = subprocess.run(["git", "-C", TOP, "ls-files", "-z", "-co", "--exclude-standard"], capture_output=True, check=True).stdout
    for name in listed.decode().split("\0"):
        if name and os.path.lexists(TOP / name):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TOP / name, copy / name, follow_symlinks=False)
    session.env["ANSIBLE_COLLECTIONS_PATH"] = str(tree)
    session.env["ANSIBLE_HOME"] = str(tree / "home")
    session.chdir(copy)
    return copy


def ansible_test(session: nox.Session, core: str) -> Path:
    """An environment with ansible-test of that core, and the collection's copy."""
    session.install(core_requirement(core), "-r", "requirements.txt")
    if core not in SKIPPED_TESTS and not shutil.which("shellcheck"):
        session.warn("shellcheck is not installed: ansible-test passes over that test (Debian: apt-get install shellcheck)")
    # ansible-test bootstraps pip by a script that it downloads; with this one in its place it needs a package registry and nothing else
    folder = Path.home() / ".ansible" / "test" / "cache"
    folder.mkdir(parents=True, exist_ok=True)
    for version in ("23_1_2", "24_2", "25_2"):
        if not (path := folder / f"get_pip_{version}.py").exists():
            shutil.copy2(TOP / "tests" / "lab" / "get_pip.py", path)
    return collection(session)


def sanity(core: str) -> None:
    """All tests of `ansible-test sanity`, without an ignore."""

    @nox.session(name=f"sanity-{core}", python=CORES[core], tags=["sanity"])
    def run(session: nox.Session) -> None:
        ansible_test(session, core)
        skipped = [f"--skip-test={name}" for name in SKIPPED_TESTS.get(core, ())]
        session.run("ansible-test", "sanity", "--color", "no", "--local", *skipped, *session.posargs)

    run.__doc__ = sanity.__doc__


def units(core: str) -> None:
    """`ansible-test units` as a whole, on the Python of that core's controller."""

    @nox.session(name=f"units-{core}", python=CORES[core], tags=["units"])
    def run(session: nox.Session) -> None:
        ansible_test(session, core)
        session.run("ansible-test", "units", "--color", "no", "--venv", "--python", CORES[core], *session.posargs)

    run.__doc__ = units.__doc__


for _core in CORES:
    sanity(_core)
    units(_core)


def nodes(python: str) -> None:
    """`ansible-test units` of what runs on managed nodes, on one of their Pythons."""

    @nox.session(name=f"nodes-{python}", python=CORES[NODES[python]], tags=["units"])
    def run(session: nox.Session) -> None:
        if not shutil.which(f"python{python}"):
            session.skip(f"this machine has no working Python {python}")
        ansible_test(session, NODES[python])
        target = ["--target-python", f"venv/{python}"]
        session.run("ansible-test", "units", "--color", "no", *target, "tests/unit/plugins/module_utils/", "tests/unit/plugins/modules/", *session.posargs)

    run.__doc__ = nodes.__doc__


for _python in NODES:
    nodes(_python)


@nox.session(python=CORES[DEFAULT])
def lint(session: nox.Session) -> None:
    """ruff (check and format), bandit, yamllint, codespell, REUSE, changelog fragments, and ansible-lint's production profile."""
    session.install(
        "ansible-lint>=25.1",
        "antsibull-changelog>=0.30",
        "codespell>=2.3",
        "reuse>=5",
        "ruff>=0.9",
        "yamllint>=1.35",
        "bandit[toml]>=1.8",
        core_requirement(DEFAULT),
    )
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("bandit", "--quiet", "--configfile", "pyproject.toml", "--recursive", "plugins")
    session.run("reuse", "lint", "--quiet")
    collection(session)
    session.run("codespell")
    session.run("yamllint", "--strict", ".")
    session.run("antsibull-changelog", "lint")
    session.run("ansible-lint", "--offline", "--profile", "production")


@nox.session(python=CORES[DEFAULT])
def types(session: nox.Session) -> None:
    """mypy over the controller's code."""
    session.install("mypy>=1.11", "types-PyYAML", "types-jmespath", core_requirement(DEFAULT), "-r", "requirements.txt")
    tree = collection(session).parents[2]
    session.run("mypy", "--config-file", "pyproject.toml", "-p", "ansible_collections.kataops.aio.plugins.plugin_utils", env={"MYPYPATH": str(tree)})


@nox.session(python=CORES[DEFAULT])
def docs(session: nox.Session) -> None:
    """The plug-ins' documentation is checked, and the site is built (docs/docsite, modules, roles); a warning is an error."""
    session.install("antsibull-docs>=2.16", "ansible-pygments", "sphinx", "sphinx-ansible-theme", core_requirement(DEFAULT), "-r", "requirements.txt")
    top = collection(session)
    check = ["--plugin-docs", "--validate-collection-refs=dependent", "--disallow-unknown-collection-refs"]
    session.run("antsibull-docs", "lint-collection-docs", *check, ".")
    site = top.parents[2] / "site"
    site.mkdir(mode=0o700)
    make = ["--use-current", "--squash-hierarchy", "--fail-on-error", "--lenient", "--sphinx-theme", "sphinx_ansible_theme", "--title", "kataops.aio"]
    session.run("antsibull-docs", "sphinx-init", *make, "--dest-dir", str(site), "kataops.aio")
    # What stands in other documentation is not looked up: the build needs no network
    conf = site / "conf.py"
    conf.write_text(conf.read_text() + "\nintersphinx_mapping = {}\nnitpicky = False\nsuppress_warnings = ['ref.ref']\n")
    rst = site / "rst"
    rst.mkdir(exist_ok=True)
    collect = ["--use-current", "--squash-hierarchy", "--fail-on-error", "--cleanup", "everything", "--dest-dir", str(rst)]
    session.run("antsibull-docs", "--config-file", str(site / "antsibull-docs.cfg"), "collection", *collect, "kataops.aio")
    html = TOP / "build" / "site"
    session.run("sphinx-build", "-M", "html", str(rst), str(html), "-c", str(site), "-W", "--keep-going", "--quiet")
    session.log(f"the site: {html}/html/index.html")


@nox.session(python=CORES[DEFAULT])
def build(session: nox.Session) -> None:
    """The archive that a release has, into dist/; what must not be in it is refused."""
    session.install(core_requirement(DEFAULT))
    collection(session)
    session.run("ansible-galaxy", "collection", "build", "--force", "--output-path", str(TOP / "dist"))


@nox.session(python=CORES[DEFAULT])
def importer(session: nox.Session) -> None:
    """Galaxy's own importer over the archive: an error or a warning fails."""
    session.install("galaxy-importer>=0.4.31", core_requirement(DEFAULT))
    checked_archive(session, (TOP / session.create_tmp()).resolve() / "dist")


def checked_archive(session: nox.Session, dist: Path) -> None:
    """Builds the archive of the collection's copy into the folder, and has the importer read it."""
    collection(session)
    session.run("ansible-galaxy", "collection", "build", "--force", "--output-path", str(dist))
    archive = next(dist.glob("kataops-aio-*.tar.gz"))
    session.chdir(dist)
    told = session.run("python", "-m", "galaxy_importer.main", str(archive), silent=True, stderr=subprocess.STDOUT)
    session.log(told)
    if bad := [line for line in told.splitlines() if line.startswith(("WARNING", "ERROR"))]:
        session.error(f"the importer has {len(bad)} errors and warnings: {bad[0]}")


@nox.session(name="execution-environment", python=CORES[DEFAULT])
def execution_environment(session: nox.Session) -> None:
    """ansible-builder makes the build context of both execution environments."""
    session.install("ansible-builder>=3.1")
    top = collection(session)
    for definition in ("execution-environment.yml", "execution-environment-minimal.yml"):
        context = str(top.parents[2] / Path(definition).stem)
        told = session.run("ansible-builder", "create", "-f", f"docs/examples/awx/{definition}", "-c", context, silent=True, stderr=subprocess.STDOUT)
        if "outdated base image" in told or "WARN" in told:
            session.error(told)


@nox.session(python=CORES[DEFAULT])
def release(session: nox.Session) -> None:
    """A release of galaxy.yml's version, up to its tag: nox -s release -- 0.2.0 [--key SSH_KEY_FILE_OR_GPG_KEY_ID]. It pushes nothing."""
    if not session.posargs:
        session.error("which version? nox -s release -- 0.2.0 [--key FILE_OR_ID]")
    version, *more = session.posargs
    if more and (len(more) != 2 or more[0] != "--key"):
        session.error(f"unknown arguments {' '.join(more)}; known: --key FILE_OR_ID")
    archive = TOP / "dist" / f"kataops-aio-{version}.tar.gz"

    def git(*command: str) -> str:
        return subprocess.run(["git", "-C", TOP, *command], capture_output=True, text=True, check=True).stdout.strip()

    if f"\nversion: {version}\n" not in (TOP / "galaxy.yml").read_text():
        session.error(f"galaxy.yml has another version than {version}: correct it first")
    if git("status", "--porcelain"):
        session.error("there are changes that are not committed")
    if git("tag", "--list", version):
        session.error(f"the tag {version} exists already")
    session.install("antsibull-changelog>=0.30", "galaxy-importer>=0.4.31", core_requirement(DEFAULT))
    session.env["ANSIBLE_COLLECTIONS_PATH"] = str(collection(session).parents[2])
    session.chdir(TOP)
    try:
        session.run("antsibull-changelog", "release", "--version", version)
        archive.parent.mkdir(exist_ok=True)
        for old in archive.parent.iterdir():
            old.unlink()
        checked_archive(session, archive.parent)
        session.chdir(TOP)
        if not archive.exists():
            session.error(f"the build made no {archive.name}")
        sums = archive.parent / "SHA256SUMS"
        sums.write_text(f"{hashlib.sha256(archive.read_bytes()).hexdigest()}  {archive.name}\n")
        if more:
            sign(session, sums, more[1])
    except BaseException:
        git("checkout", "--", "changelogs", "CHANGELOG.md")
        raise
    git("add", "-A", "changelogs", "CHANGELOG.md")
    git("commit", "-m", f"Release {version}")
    git("tag", "-a", version, "-m", f"kataops.aio {version}")
    session.log(
        f"{archive} is checked; the commit and the tag {version} are made. Next: git push origin main {version}; ansible-galaxy collection publish {archive}"
    )


def sign(session: nox.Session, sums: Path, key: str) -> None:
    """SHA256SUMS.sig by an SSH key (a file), or SHA256SUMS.asc by a GPG key (its id)."""
    if Path(key).exists():
        session.run("ssh-keygen", "-Y", "sign", "-n", "file", "-f", key, str(sums), external=True)
    else:
        session.run("gpg", "--local-user", key, "--armor", "--detach-sign", str(sums), external=True)

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds QEMU on this machine: who am I, start, watch, stop, pack. PRIVATE to kataops.aio.

A build has one folder, ``<work>/<tree id>``. It runs in a session of its own and holds a lock on ``<folder>/lock`` as long as one of its
processes lives, so that a lost connection does not end it and nobody starts it twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import time

from ansible_collections.kataops.aio.plugins.module_utils._tree import manifest as _manifest
from ansible_collections.kataops.aio.plugins.module_utils._build import recipe as _recipe
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._host import command
from ansible_collections.kataops.aio.plugins.module_utils._host.child import Child
from ansible_collections.kataops.aio.plugins.module_utils._host.guard import ENVIRONMENT, Guard
from ansible_collections.kataops.aio.plugins.module_utils._host.trust import require_folder
from ansible_collections.kataops.aio.plugins.module_utils._qemu.observe import observe_qemus
from ansible_collections.kataops.aio.plugins.module_utils._qemu.requirements import MACHINES
from ansible_collections.kataops.aio.plugins.module_utils._qemu.qmp import QmpError, QmpSession
from ansible_collections.kataops.aio.plugins.module_utils._tree.store import distribution

#: Bytes that sources, objects and the tree of one build take at most (measured: 1.1 GB for QEMU 7.2, static, x86_64).
NEEDED_BYTES = 2 * 1024**3

LOG_LINES = 40
_COMMAND_LIMIT = 600
_MOST_OUTPUT = 64 << 20  # all of a distribution's source records for one package have some 100 KB


def run(argv, limit=_COMMAND_LIMIT):
    """Standard output of a command; AioError with its last words when it fails, is missing or takes longer than ``limit`` seconds.

    It has the network, and of the module's environment only where its proxies are.
    """
    with Guard(confine=False) as guard:
        done = command.run(argv, limit, _MOST_OUTPUT, _proxies(), guard)
    if done.missing:
        raise AioError("the builder has no %s" % argv[0], where=argv[0], remedy="install it, or take another builder")
    if done.problem:
        raise AioError("%s: %s" % (argv[0], done.problem), where=" ".join(argv))
    if done.status:
        words = (done.words.strip() or done.text.strip())[-800:]
        raise AioError("%s failed with status %d: %s" % (argv[0], done.status, words), where=" ".join(argv))
    return done.text


def _proxies():
    return {name: value for name, value in os.environ.items() if name.lower() in ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")}


def make_work_folder(path):
    """Make the folder of builds, for this user alone: what is run in it is run as him.

    :raises AioError: where others than root could change it, or a folder on the way to it.
    """
    require_folder(path, "building QEMU")
    os.makedirs(path, mode=0o700, exist_ok=True)
    require_folder(path, "building QEMU")


# --- Debian and Ubuntu ---


def apt_options(work):
    """apt options that read source packages from private files and lists below ``work``; nothing of the builder's own apt is changed."""
    base = os.path.join(work, "apt")
    settings = (
        ("Dir::Etc::sourcelist", "/dev/null"),
        ("Dir::Etc::sourceparts", os.path.join(base, "sources.list.d")),
        ("Dir::State::lists", os.path.join(base, "lists")),
        ("Dir::Cache::pkgcache", ""),
        ("Dir::Cache::srcpkgcache", ""),
        ("APT::Sandbox::User", "root"),
        ("APT::Get::List-Cleanup", "false"),
    )
    options = ["--quiet=2"]
    for name, value in settings:
        options += ["-o", "%s=%s" % (name, value)]
    return options


def refresh_sources(work, max_age=3600, root="/etc/apt"):
    """Private copies of the builder's apt sources as source-package sources, and their lists, no older than ``max_age`` seconds."""
    base = os.path.join(work, "apt")
    parts = os.path.join(base, "sources.list.d")
    stamp = os.path.join(base, "updated")
    files = {}
    candidates = [os.path.join(root, "sources.list")]
    folder = os.path.join(root, "sources.list.d")
    if os.path.isdir(folder):
        candidates += [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
    for path in candidates:
        if path.endswith((".list", ".sources")) and os.path.isfile(path):
            with open(path, encoding="utf-8") as handle:
                text = _recipe.source_stanzas(handle.read(), path.endswith(".sources"))
            if text:
                files[os.path.basename(path)] = text
    if not files:
        raise AioError("no apt sources to take QEMU's source package from", where=root, expected="sources.list or sources.list.d/*.sources")
    fresh = True
    for sub in ("sources.list.d", "lists/partial"):
        os.makedirs(os.path.join(base, sub), exist_ok=True)
    for name in set(os.listdir(parts)) - set(files):
        os.unlink(os.path.join(parts, name))
        fresh = False
    for name, text in files.items():
        path = os.path.join(parts, name)
        if not os.path.exists(path) or open(path, encoding="utf-8").read() != text:  # noqa: SIM115
            with open(path, "w", encoding="utf-8") as handle:
                handle.write(text)
            fresh = False
    if fresh and os.path.exists(stamp) and time.time() - os.path.getmtime(stamp) < max_age:
        return
    run(["apt-get"] + apt_options(work) + ["update"])
    with open(stamp, "w", encoding="utf-8"):
        pass


def distribution_source(work, name, version):
    """``{kind, name, version, sha256}`` of the distribution's source package; the newest, or the one of ``version``."""
    if not command.find("apt-get"):
        raise AioError(
            "the distribution's source package can be had from apt only",
            where="qemu_build_source",
            expected="a Debian or Ubuntu builder",
            remedy="use qemu_build_source: tarball, or a Debian builder",
        )
    refresh_sources(work)
    records = _recipe.source_records(run(["apt-cache"] + apt_options(work)[1:] + ["showsrc", "--only-source", name]))
    if version:
        records = [record for record in records if record[0] == version]
    if not records:
        raise AioError("no source package %s%s" % (name, " of version " + version if version else ""), where="the builder's apt sources")
    best = records[0]
    for record in records[1:]:
        if command.run(["dpkg", "--compare-versions", record[0], "gt", best[0]], _COMMAND_LIMIT).status == 0:
            best = record
    return {"kind": "distribution", "name": name, "version": best[0], "sha256": best[1]}


def toolchain(packages):
    """``{package: version}`` of what the build uses: the installed version, else the one that would be installed.

    ``gcc`` and ``binutils`` are named by their real packages too (gcc is a pointer to gcc-<major>).
    """
    if command.find("apt-cache"):
        text = run(["apt-cache", "depends", "--no-recommends", "--no-suggests", "gcc"])
        compilers = re.findall(r"Depends: (gcc-\d+)$", text, re.MULTILINE)
        versions = _recipe.package_versions(run(["apt-cache", "policy"] + sorted(set(list(packages) + compilers))))
        missing = sorted(name for name in packages if versions.get(name) is None)
        if missing:
            raise AioError(
                "apt knows no such packages: %s" % ", ".join(missing),
                where="the builder's package lists",
                remedy="run apt-get update on the builder; check its distribution",
            )
        return versions
    if command.find("rpm"):
        versions = {}
        for name in packages:
            found = command.run(["rpm", "-q", "--qf", "%{EVR}", name], _COMMAND_LIMIT)
            versions[name] = found.text if found.status == 0 else None
        return versions
    raise AioError("neither apt nor rpm on the builder", where="the builder", expected="Debian, Ubuntu, Fedora or Enterprise Linux")


def identify(options):
    """The build inputs of these options on this builder, and its identity: ``{id, inputs}``."""
    if re.search(r"[\s:]", options["work_dir"]):
        raise AioError("QEMU cannot be built in a folder whose name has spaces or colons", where="qemu_build_work_dir: %s" % options["work_dir"])
    source = dict(options["source"])
    if source["kind"] == "distribution":
        source = distribution_source(options["work_dir"], source.get("name") or "qemu", source.get("version"))
    for key in ("name", "version", "sha256"):
        if not source.get(key):
            raise AioError("the source's %s is missing" % key, where="qemu_build_source: %s" % source["kind"])
    inputs = _recipe.inputs(
        arch=options["architecture"] or os.uname().machine,
        linkage=options["linkage"],
        engines=options["engines"],
        minimal=options["minimal"],
        hardening=options["hardening"],
        extra=options["configure_extra"],
        source=source,
        patch_digests=options["patch_digests"],
        toolchain={} if source["kind"] == "kata_static" else toolchain(options["packages"]),
    )
    return {"id": _recipe.tree_id(inputs), "inputs": inputs}


# --- one build ---


class Build:
    """One build's folder on this builder."""

    def __init__(self, work_dir, tree_id):
        self.id = _manifest.valid_id(tree_id)
        self.folder = os.path.join(work_dir, tree_id)

    def path(self, name):
        """A file of this build."""
        return os.path.join(self.folder, name)

    def _read(self, name):
        try:
            with open(self.path(name), encoding="utf-8") as handle:
                return handle.read().strip()
        except FileNotFoundError:
            return None

    def _lock(self):
        """The lock's descriptor, or None while the build runs."""
        descriptor = os.open(self.path("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def start(self, inputs, cache_dir, time_limit, *, source_path=None, patches=(), jobs=None):
        """Starts the build unless it runs or is done; returns its state (see :meth:`status`). ``time_limit`` is in seconds."""
        require_folder(cache_dir, "keeping the compiler's cache")
        os.makedirs(self.folder, exist_ok=True)
        os.makedirs(cache_dir, mode=0o700, exist_ok=True)
        descriptor = self._lock()
        if descriptor is None:
            return self.status()
        if self._read("rc") == "0" and (os.path.isdir(self.path("tree")) or self._read("artifact.json")):
            os.close(descriptor)
            return self.status()
        try:
            free = shutil.disk_usage(self.folder).free
            if free < NEEDED_BYTES:
                raise AioError(
                    "not enough room to build: %d MiB free" % (free >> 20),
                    where=self.folder,
                    expected="%d MiB" % (NEEDED_BYTES >> 20),
                    remedy="make room, or set qemu_build_work_dir to another file system",
                )
            for name in ("rc", "log", "session", "checked.json", "artifact.json"):
                if os.path.exists(self.path(name)):
                    os.unlink(self.path(name))
            work_dir = os.path.dirname(self.folder)
            text = _recipe.script(
                inputs, self.folder, cache_dir, source_path=source_path, patches=patches, apt_options=apt_options(work_dir), jobs=jobs
            )
            for name, content in (("build.sh", text), ("inputs.json", json.dumps(inputs))):
                with open(self.path(name), "w", encoding="utf-8") as handle:
                    handle.write(content)
            supervise = 'timeout --kill-after 10 "$1" bash "$2/build.sh" >"$2/log" 2>&1; echo $? >"$2/rc.new"; mv "$2/rc.new" "$2/rc"'
            process = subprocess.Popen(  # pylint: disable=ansible-bad-function  # nosec B603  # our own bash; it outlives the module
                [command.find("bash"), "-c", supervise, "build", str(time_limit), self.folder],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=[descriptor],
                cwd="/",
                env=dict(ENVIRONMENT, **_proxies()),
            )
            with open(self.path("session"), "w", encoding="utf-8") as handle:
                handle.write(str(process.pid))
        finally:
            os.close(descriptor)
        return self.status()

    def status(self, wait=0):
        """``{state, rc, phase, done, total, seconds, log_tail}``.

        state is absent, running, succeeded, failed or interrupted. Looks again every half second while it runs, for up to ``wait`` seconds.
        """
        deadline = time.monotonic() + wait
        while True:
            state, code = self._state()
            if state != "running" or time.monotonic() >= deadline:
                break
            time.sleep(0.5)
        log = self._log_text()
        course = _recipe.progress(log)
        return {
            "state": state,
            "rc": code,
            "phase": course["phase"],
            "done": course["done"],
            "total": course["total"],
            "phase_seconds": int(time.time() - course["phase_started"]) if course["phase_started"] else None,
            "seconds": int(time.time() - course["started"]) if course["started"] else None,
            "log": self.path("log"),
            "log_tail": log.splitlines()[-LOG_LINES:] if state in ("failed", "interrupted") else [],
        }

    def _state(self):
        if not os.path.isdir(self.folder):
            return "absent", None
        descriptor = self._lock()
        if descriptor is None:
            return "running", None
        os.close(descriptor)
        code = self._read("rc")
        if code is None:
            return ("interrupted" if os.path.exists(self.path("session")) else "absent"), None
        return ("succeeded" if code == "0" else "failed"), int(code)

    def _log_text(self, tail=65536):
        """The log's phase lines and its end; a build writes up to some MB."""
        try:
            with open(self.path("log"), "rb") as handle:
                size = os.fstat(handle.fileno()).st_size
                phases = [line for line in handle.read(max(0, size - tail)).decode("utf-8", "replace").splitlines() if line.startswith("@@ ")]
                handle.seek(max(0, size - tail))
                return "\n".join(phases + [handle.read().decode("utf-8", "replace")])
        except FileNotFoundError:
            return ""

    def stop(self):
        """Ends every process of a running build; returns the state after it."""
        session = self._read("session")
        for sign in (signal.SIGTERM, signal.SIGKILL):
            for _try in range(20):
                if self._state()[0] != "running" or not session:
                    return self.status()
                for pid in _session_members(int(session)):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, sign)
                time.sleep(0.25)
        return self.status()

    def check(self):
        """The finished binary's own answers against what was asked for: ``{engines: {name: outcome}, compiled: [names], version, problems}``.

        Each engine is tried by starting the binary; one that the builder's kernel refuses counts as built in, since QEMU said so itself. Of a binary
        that others built, engines beyond those asked for are welcome. What is packed has been checked; its tree may have been cleaned away.
        """
        if self._read("artifact.json"):
            return json.loads(self._read("checked.json"))
        inputs = json.loads(self._read("inputs.json") or "null")
        if self._state()[0] != "succeeded" or inputs is None:
            raise AioError("there is no finished build to check", where=self.folder, remedy="run the build again")
        tree = self.path("tree")
        path = os.path.join(tree, "bin", _recipe.binary(inputs["architecture"]))
        found = observe_qemus([path], storage_path=self.folder, timeout=60)[0]
        if found["status"] != "answered":
            return {"engines": {}, "compiled": [], "version": None, "problems": [found["reason"]]}
        own = inputs["source"]["kind"] != "kata_static"
        problems = []
        for name in _recipe.ENGINES:
            engine, wanted = found["engines"][name], name in inputs["engines"]
            if engine["compiled"] is not wanted and (own or wanted):
                words = {True: "is built in", False: "is not built in", None: "cannot be told"}[engine["compiled"]]
                problems.append("%s was %s, and %s (%s)" % (name, "asked for" if wanted else "switched off", words, engine["reason"]))
        if not own or _recipe.is_complete(inputs["configure"]):
            missing = (found["devices_missing"] or []) + (found["objects_missing"] or [])
            if missing or found["devices_missing"] is None:
                problems.append("it lacks what Kata needs: %s" % (", ".join(missing) or "the list of devices cannot be told"))
        if own and found["linkage"] != inputs["linkage"]:
            problems.append("it is %s, not %s" % (found["linkage"], inputs["linkage"]))
        elsewhere = [name for name, place in found["firmware"]["found"].items() if not place.startswith(os.path.realpath(tree) + "/")]
        if found["firmware"]["missing"] or elsewhere:
            problems.append("it does not find its own firmware: %s" % (found["firmware"]["reason"] or ", ".join(elsewhere)))
        if not problems:
            problems = start_machine(path, inputs["architecture"])
        result = {
            "engines": {name: found["engines"][name]["outcome"] for name in _recipe.ENGINES},
            "compiled": [name for name in _recipe.ENGINES if found["engines"][name]["compiled"]],
            "version": found["version"],
            "problems": problems,
        }
        with open(self.path("checked.json"), "w", encoding="utf-8") as handle:
            json.dump(result, handle)
        return result

    def pack(self):
        """Manifest, bill of materials and archive of a succeeded build: ``{path, sha256, size, manifest}``. Done once."""
        done = self._read("artifact.json")
        if done:
            return json.loads(done)
        inputs = json.loads(self._read("inputs.json") or "null")
        checked = json.loads(self._read("checked.json") or "null")
        if self._state()[0] != "succeeded" or inputs is None or not checked or checked["problems"] or _recipe.tree_id(inputs) != self.id:
            raise AioError("there is no finished and checked build to pack", where=self.folder, remedy="run the build again")
        tree = self.path("tree")
        emulator = "bin/%s" % _recipe.binary(inputs["architecture"])
        for name in (_manifest.NAME, _manifest.SBOM):
            if os.path.exists(os.path.join(tree, name)):
                os.unlink(os.path.join(tree, name))
        manifest = _manifest.complete(
            tree,
            {
                "id": self.id,
                "version": checked["version"],
                "architecture": inputs["architecture"],
                "linkage": inputs["linkage"],
                "engines": sorted(checked["compiled"]),
                "source": inputs["source"],
                "patches": inputs["patches"],
                "recipe": inputs["recipe"],
                "configure": inputs["configure"],
                "cflags": inputs["cflags"],
                "ldflags": inputs["ldflags"],
                "toolchain": inputs["toolchain"],
                "inputs_sha256": _recipe.digest(inputs),
                "source_date_epoch": int(self._read("epoch")),
                "binary": emulator,
                "data_dir": _recipe.DATA_DIR,
                "prefix": None,
                "distribution": distribution() if inputs["linkage"] == "dynamic" else None,
                "runtime_packages": runtime_packages(os.path.join(tree, emulator)) if inputs["linkage"] == "dynamic" else [],
            },
        )
        path = self.path("%s.tar.xz" % self.id)
        result = dict(_manifest.write_archive(tree, manifest, path), path=path, manifest=manifest)
        with open(self.path("artifact.new"), "w", encoding="utf-8") as handle:
            json.dump(result, handle)
        os.rename(self.path("artifact.new"), self.path("artifact.json"))
        return result

    def clean(self):
        """Removes sources, objects and the unpacked tree; log and artifact stay for the next controller that asks."""
        removed = False
        for name in ("src", "build", "tree", "downloads"):
            if os.path.isdir(self.path(name)):
                shutil.rmtree(self.path(name))
                removed = True
        return removed


def runtime_packages(binary):
    """Names of the packages that own the libraries of a dynamic binary, sorted; AioError where one library belongs to none."""
    libraries = re.findall(r"=> (/\S+) \(", run(["ldd", binary]))
    owners = set()
    for path in libraries:
        # A merged /usr has two names for one file, and dpkg knows one of them.
        for name in dict.fromkeys((path, os.path.realpath(path), "/usr" + path, re.sub(r"^/usr(?=/lib)", "", path))):
            try:
                if command.find("dpkg-query"):
                    owners.add(run(["dpkg-query", "--search", name]).split(":", 1)[0])
                else:
                    owners.add(run(["rpm", "--query", "--file", "--queryformat", "%{NAME}", name]))
                break
            except AioError:
                continue
        else:
            raise AioError("a library of the new QEMU belongs to no package", where=path, remedy="use qemu_build_linkage: static")
    return sorted(owners)


def start_machine(path, architecture):
    """Starts Kata's machine type with its firmware and takes it down again; what went wrong, as a list of sentences.

    Of the accelerators kvm, tcg and qtest QEMU takes the first that it has and may use here.
    """
    machine = MACHINES[architecture][0]
    argv = [path, "-machine", machine, "-accel", "kvm", "-accel", "tcg", "-accel", "qtest", "-m", "256M", "-nodefaults", "-display", "none"]
    argv += ["-device", "virtio-net-pci", "-S", "-qmp", "stdio"]
    with Guard() as guard:
        child = Child(argv, guard, 60)
        try:
            session = QmpSession(child)
            session.greet()
            child.write(b'{"execute": "quit"}\n')
            child.wait()
        except QmpError as error:
            return ["a %s machine does not start: %s" % (machine, (child.words() or error.what).strip())]
        finally:
            child.end()
    return []


def _session_members(session):
    """Ids of living processes whose session is ``session`` (fields 3 and 6 of proc_pid_stat(5))."""
    members = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name, encoding="utf-8", errors="replace") as handle:
                    fields = handle.read().rsplit(")", 1)[1].split()
                if int(fields[3]) == session and fields[0] not in ("Z", "X"):
                    members.append(int(name))
            except (OSError, IndexError):
                continue
    return members

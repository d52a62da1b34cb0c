# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One QEMU binary: resolve it, start it once without a machine, ask it everything. PRIVATE to kataops.aio.

The engines are told by behaviour: a node is opened on the storage that is asked about, 64 KiB are written, and the kernel's own trace of the process
says which engine did it. No version is ever looked at, since QEMU 9.0 to 10.1 fall back to threads in silence where older and newer ones refuse.
"""

from __future__ import annotations

import errno
import json
import os
import re

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._host import files
from ansible_collections.kataops.aio.plugins.module_utils._host.child import Child, OutputTooLong
from ansible_collections.kataops.aio.plugins.module_utils._host.guard import Guard, GuardLost, shared
from ansible_collections.kataops.aio.plugins.module_utils._qemu import engines as _engines
from ansible_collections.kataops.aio.plugins.module_utils._qemu.elf import read_elf
from ansible_collections.kataops.aio.plugins.module_utils._qemu.engines import ENGINES, evidence
from ansible_collections.kataops.aio.plugins.module_utils._qemu.file import look_at, origin_of, package_of
from ansible_collections.kataops.aio.plugins.module_utils._qemu.image import CANNOT_OPEN, IO_SIZE, Image, storage_folder
from ansible_collections.kataops.aio.plugins.module_utils._qemu.qmp import QmpError, QmpSession, items_of, version_of
from ansible_collections.kataops.aio.plugins.module_utils._qemu.requirements import DEVICES, GLOBALS, OBJECTS, absent_devices, firmware, machine_types

# Without a machine no accelerator matters, but a QEMU built for KVM only starts none without one. qtest needs nothing of the host; it is not in every
# build, and QEMU goes on to the next where one is not.
ARGUMENTS = (
    "-machine", "none", "-accel", "qtest", "-accel", "tcg", "-accel", "kvm", "-nodefaults", "-display", "none", "-S", "-qmp", "stdio",
)  # fmt: skip
# What does not depend on any answer is asked before QEMU is up.
_FIRST_REQUESTS = (("query-target", None), ("query-machines", None)) + tuple(("qom-list-properties", {"typename": name}) for name in OBJECTS)
_NODE = "kataops-aio-probe"


def observe_qemus(paths, storage_path=None, timeout=10, run=True):
    """Observe QEMU binaries.

    :arg paths: list of the paths that Kata would run; two that lead to one file are one result (and one process).
    :arg storage_path: the folder that will hold block images; None: :data:`._qemu_image.DEFAULT_STORAGE`.
    :arg timeout: seconds that each binary may take.
    :arg run: False: start nothing, only read the ELF file.
    :returns: list of results (``qemu`` in the architecture page), in the order first named.
    :raises AioError: for a storage path that is not absolute. What is wrong with a binary is a result, not an error.
    """
    folder = storage_folder(storage_path)
    results, by_file = [], {}
    for path in paths:
        key = _identity(path)
        if key in by_file:
            if path not in by_file[key]["names"]:
                by_file[key]["names"].append(path)
            continue
        by_file[key] = _observe_guarded(path, folder, timeout, run)
        results.append(by_file[key])
    return results


def _observe_guarded(path, folder, timeout, run):
    snap = path.startswith("/snap/") or ("\0" not in path and os.path.realpath(path).endswith("/bin/snap"))
    if not snap:
        return observe_qemu(path, folder, timeout, run, shared())
    # A snap is put into its confinement by a setuid program, which no_new_privs forbids.
    with Guard(confine=False) as guard:
        return observe_qemu(path, folder, timeout, run, guard)


def _identity(path):
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return path
    return (status.st_dev, status.st_ino)


def observe_qemu(path, folder, timeout, run, guard):
    """Observe one binary; see :func:`observe_qemus`. ``folder`` exists, ``guard`` is an entered ``Guard``."""
    result = _nothing_known(path)
    if not os.path.isabs(path) or "\0" in path:
        result["status"] = "missing"
        result["reason"] = "%r: not an absolute path; name the binary from / on" % path
        return _finish(result, None)
    seen = look_at(path)
    for key in ("real_path", "kind", "file", "wrapper", "status", "reason"):
        result[key] = seen[key]
    if seen["elf"] is not None:
        _take_elf(result, seen["elf"])
    package_words = None
    if run and seen["status"] is None:
        package_words = _Observation(result, path, folder, timeout, guard).run()
    elif seen["status"] is None:
        result["status"] = "unreadable" if seen["elf"] is None else "not_executable"
        result["reason"] = "%s: it was not to be run, so only the file was read" % path
    if result["package"] is None and result["kind"] in ("elf", "script"):
        result["package"] = package_of(result["real_path"])
    return _finish(result, package_words)


def _take_elf(result, elf):
    result["architecture"] = elf.architecture
    result["linkage"] = elf.linkage
    result["needed"] = elf.needed


def _finish(result, package_words):
    """Fill what QEMU itself did not tell from the strings of its ELF file, and whose it is."""
    engines = result["engines"]
    unknown = [engine for engine in ENGINES if engines[engine]["compiled"] is None]
    if result["real_path"] and result["kind"] in ("elf", "script") and (unknown or result["version"] is None):
        words = _read_strings(result, unknown)
        package_words = package_words or words
    result["origin"] = origin_of(result["path"], result["real_path"], result["package"], package_words)
    for engine in engines.values():
        if engine["reason"] is None and engine["outcome"] == "unknown":
            engine["reason"] = "QEMU was not asked: %s" % result["reason"] if result["status"] != "answered" else "QEMU gave no answer that tells"
    return result


def _read_strings(result, unknown):
    """Search the ELF file for QEMU's own strings. Returns the package words beside the version, or None."""
    # Only now, as hosts whose QEMU answers need not compile it
    from ansible_collections.kataops.aio.plugins.module_utils._qemu.strings import MARKS, compiled_by_marks, find_marks

    path = result["real_path"]
    try:
        with files.opened(path) as descriptor, os.fdopen(os.dup(descriptor), "rb") as stream:
            if result["architecture"] is None or result["kind"] == "script":
                _take_elf(result, read_elf(stream, path))
            told = find_marks(stream)
    except (OSError, AioError):
        return None
    if "qemu" not in told["marks"]:
        if result["kind"] == "elf" and result["status"] in ("crashed", "unintelligible", "timed_out") and result["version"] is None:
            result["reason"] += ". The file has none of QEMU's strings"
            result["status"] = "not_qemu"
        return None
    compiled = dict(compiled_by_marks(told["marks"]), threads=True)
    for engine in unknown:
        found = result["engines"][engine]
        if compiled[engine] is None:
            continue
        found["compiled"], found["compiled_by"] = compiled[engine], "elf"
        marks = sorted(mark for mark in told["marks"] if mark.startswith(engine))
        found["evidence"].append(evidence("strings of %s" % path, "; ".join(MARKS[mark].decode("ascii") for mark in marks) or "QEMU", "elf"))
        if compiled[engine] is False:
            found.update(usable=False, outcome="not_compiled", cause="not_in_build", reason="this QEMU was built without it")
    if result["version"] is None and told["version"]:
        result["version"], result["version_by"] = told["version"], "elf"
    return told["package"]


def _nothing_known(path):
    return {
        "path": path,
        "names": [path],
        "real_path": None,
        "status": None,
        "reason": None,
        "kind": None,
        "wrapper": None,
        "origin": None,
        "package": None,
        "file": None,
        "version": None,
        "version_by": None,
        "architecture": None,
        "linkage": None,
        "needed": [],
        "engines": {engine: _engines.unknown_engine(None) for engine in ENGINES},
        "firmware": {"search_paths": None, "missing": None, "found": {}, "reason": "QEMU was not asked"},
        "devices_missing": None,
        "objects_missing": None,
        "machine_types": None,
        "evidence": [],
    }


# io_uring first and threads last: worker threads linger, and blur the trace where the kernel does not tell what they wrote.
_ORDER = ("io_uring", "native", "threads")
_NOT_WRITTEN = object()


def _pattern(engine):
    return 0x11 * (1 + ENGINES.index(engine))


def _offset(engine):
    return IO_SIZE * ENGINES.index(engine)


def _write_line(engine, node):
    return 'qemu-io %s "write -P %d %d 64k"' % (node, _pattern(engine), _offset(engine))


def _of(direct, added):
    """The answers of :meth:`_Observation._round` with or without cache.direct, by engine."""
    return {engine: answer for (engine, with_direct), answer in added.items() if with_direct is direct}


def _said(answer):
    """What the monitor's qemu-io said, on one line."""
    return " ".join((answer.noise + " " + str(answer.value if answer.ok else answer.words)).split())


class _Observation:
    """One start of one binary. Fills ``result``; whatever was learnt before something went wrong stays in it."""

    def __init__(self, result, path, folder, timeout, guard):
        self.result = result
        self.path = path
        self.folder = folder
        self.timeout = timeout
        self.guard = guard
        self.target = None
        self.package_words = None
        self.child = self.dirs = self.image = self.session = None
        self.pids = []
        self.trace = None
        self.nodes = 0
        self.first = []
        self.stderr = ""

    def run(self):
        """Returns the package words of QEMU's greeting, or None."""
        storage_reason = None
        try:
            self.image = Image(self.folder)
        except AioError as exc:
            storage_reason = str(exc)
            self.image = Image.in_memory()
        try:
            self._converse(storage_reason)
            self.result["status"] = "answered"
        except QmpError as exc:
            self._went_wrong(exc)
        except OutputTooLong as exc:
            self._stop()
            self._set("unintelligible", "%s; is it QEMU?" % exc.what)
        except GuardLost as exc:
            self._set("killed", exc.what)
        except OSError as exc:
            self._stop()
            interpreter = " (its interpreter is missing)" if exc.errno == errno.ENOENT else ""
            self._set("not_executable", "the kernel does not run it: %s%s; install a QEMU for this host" % (exc.strerror, interpreter))
        finally:
            self._stop()
            self.image.close()
        return self.package_words

    def _set(self, status, what):
        self.result["status"] = status
        self.result["reason"] = "%s: %s" % (self.path, what)

    def _stop(self):
        for child in (self.child, self.dirs):
            if child is not None:
                child.end()

    def _converse(self, storage_reason):
        self.child = Child([self.path, *ARGUMENTS, *GLOBALS], self.guard, self.timeout, (self.image.fd,))
        self.session = QmpSession(self.child)
        first = self.session.open(_FIRST_REQUESTS)
        if self.result["kind"] == "elf":
            self.result["package"] = package_of(self.result["real_path"])
        # QEMU tells its firmware folders only on its command line, and exits; it does so while the other one starts.
        self.dirs = Child([self.path, "-L", "help"], self.guard, self.timeout)
        self.dirs.close_input()
        greeting = self.session.greet()
        version, self.package_words = version_of(greeting)
        self.result["version"], self.result["version_by"] = version, "qmp"
        self._note("QMP greeting of %s" % " ".join((self.path, *ARGUMENTS)), json.dumps(greeting["QMP"].get("version")))
        self._find_process()
        self.trace = _engines.kernel_trace(self.pids)
        self._engines(first, storage_reason)
        self._needs()
        self.child.write(b'{"execute": "quit"}\n')
        self._firmware()
        self.child.leave()

    def _note(self, asked, answered, by="qmp"):
        self.result["evidence"].append(evidence(asked, answered, by))

    def _find_process(self):
        """Which processes are QEMU's (a wrapper may keep a shell), and which file really runs."""
        self.pids = [self.child.pid] if self.result["kind"] == "elf" else self.child.group()
        running = []
        for pid in self.pids:
            try:
                running.append(os.readlink("/proc/%d/exe" % pid))
            except OSError:
                continue
        for exe in running:
            # A dynamic loader that was called by name hides what it runs; so does a shell.
            if "qemu" in os.path.basename(exe):
                self.result["real_path"] = exe
                if self.result["wrapper"] and self.result["wrapper"]["target"] is None:
                    self.result["wrapper"]["target"] = exe
                self._note("the program behind process %d" % self.child.pid, exe, "proc")
                break

    def _engines(self, first, storage_reason):
        """Open nodes with each engine, with and without cache.direct, and do one I/O with each.

        :arg first: the requests that were sent before these; their answers come first.
        """
        found = {engine: _engines.unknown_engine(None) for engine in _ORDER}
        if storage_reason is not None:
            for engine in _ORDER:
                found[engine]["reason"] = "not tried: %s" % storage_reason
            buffered = _of(False, self._round(found, [(engine, False, False) for engine in _ORDER], first))
        else:
            direct, buffered = self._direct(found, first)
            if any(not added.ok and re.search(CANNOT_OPEN, added.words) for added in direct.values()):
                self.image.give_name()
                direct, buffered = self._direct(found, [])
            for engine, added in direct.items():
                self._take_direct(found[engine], engine, added)
            # Where the storage refuses cache.direct=on, that told nothing of the engine; an I/O without it does.
            again = [engine for engine in _ORDER if found[engine]["cause"] == "no_o_direct"]
            again += [engine for engine in _ORDER if found[engine]["compiled"] is None and engine not in again]
            if again:
                buffered.update(_of(False, self._round(found, [(engine, False, found[engine]["cause"] == "no_o_direct") for engine in again])))
        for engine, added in buffered.items():
            if found[engine]["compiled"] is not False:
                self._take_buffered(found[engine], engine, added)
        for engine in ENGINES:
            if found[engine]["compiled"] is not None:
                found[engine]["compiled_by"] = "qmp"
            self.result["engines"][engine] = found[engine]

    def _direct(self, found, first):
        """All engines with cache.direct=on, and native, which demands it, without. Returns both: ``{engine: answer to blockdev-add}``."""
        groups = [[(engine, True, True) for engine in _ORDER] + [("native", False, False)]]
        if self.trace is not None and self.trace.io_uring_rings and self.trace.written is None:
            # The event loop's ring hides io_uring's, and the kernel does not tell who wrote: only one I/O at a time can be told then.
            groups = [[case] for case in groups[0]]
        direct, buffered = {}, {}
        for cases in groups:
            added = self._round(found, cases, first)
            first = []
            direct.update(_of(True, added))
            buffered.update(_of(False, added))
        return direct, buffered

    def _take_direct(self, found, engine, added):
        if added.ok:
            found["compiled"] = True
            return
        meaning = _engines.meaning_of(engine, added.words)
        found.update(
            outcome=meaning.outcome, cause=meaning.cause, compiled=meaning.compiled, needs_direct=meaning.needs_direct, reason=meaning.reason,
            usable=None if meaning.outcome == "unknown" else False,
        )  # fmt: skip
        if meaning.cause == "no_o_direct":
            found["reason"] = "%s: %s; so cache.direct=on works with no engine there" % (self.folder, meaning.reason)

    @staticmethod
    def _take_buffered(found, engine, added):
        """What QEMU says without cache.direct: native is refused, the others are not."""
        if added.ok:
            found["needs_direct"] = False
            found["compiled"] = True
            return
        meaning = _engines.meaning_of(engine, added.words)
        if meaning.cause == "needs_direct":
            found["needs_direct"] = True
            found["compiled"] = True
        elif meaning.compiled is not None and found["compiled"] is None:
            # The kernel's refusal stands above the storage's: it is so on every storage.
            found.update(compiled=meaning.compiled, outcome=meaning.outcome, cause=meaning.cause, reason=meaning.reason, usable=False)

    def _round(self, found, cases, first=()):
        """For each case, ``(engine, direct, write)``: open a node and where wanted write to it, all in one go. QEMU closes them when it ends.

        :arg first: requests that were sent before; their answers come first, to ``self.first``.
        :returns: ``{(engine, direct): answer to blockdev-add}``. ``found`` has the evidence, and the outcome of the writes.
        """
        requests = []
        for engine, direct, write in cases:
            self.nodes += 1
            name = "%s-%d" % (_NODE, self.nodes)
            node = {"driver": "file", "node-name": name, "filename": self.image.path, "aio": engine, "cache": {"direct": direct, "no-flush": False}}
            requests.append(("blockdev-add", node))
            if write:
                requests.append(("human-monitor-command", {"command-line": _write_line(engine, name)}))
        sent = self.session.send(requests)
        if first:
            self.first = self.session.receive(first)
        answers = iter(self.session.receive(sent))
        before, self.trace = self.trace, _engines.kernel_trace(self.pids)
        stderr = self.child.words()
        self.stderr += stderr
        added, written = {}, {}
        for engine, direct, write in cases:
            added[engine, direct] = next(answers)
            if write:
                written[engine, direct] = next(answers)
        wrote = [case for case, answer in written.items() if added[case].ok and self._wrote(case[0], answer)]
        used = _engines.engines_used([engine for engine, _direct in wrote], before, self.trace, IO_SIZE, stderr)
        nodes = iter(arguments for command, arguments in requests if command == "blockdev-add")
        for (engine, direct), answer in added.items():
            node = next(nodes)
            found[engine]["evidence"].append(evidence("blockdev-add " + json.dumps(node), "accepted" if answer.ok else answer.words, "qmp"))
            if (engine, direct) in written and answer.ok:
                said, line = _said(written[engine, direct]), _write_line(engine, node["node-name"])
                done = (engine, direct) in wrote
                found[engine]["evidence"].append(evidence(line, said or "no words; the bytes are %s the image" % ("in" if done else "not in"), "qmp"))
                self._take_write(found[engine], engine, direct, said, used.get(engine) if done else _NOT_WRITTEN, before, stderr)
        return added

    def _wrote(self, engine, answer):
        return "wrote %d/%d bytes" % (IO_SIZE, IO_SIZE) in _said(answer) or self.image.contains(_pattern(engine), _offset(engine))

    def _take_write(self, found, engine, direct, said, used, before, stderr):  # noqa: PLR0917
        found["evidence"].append(
            evidence("/proc/PID/{maps,fd,task,io} before the nodes and after their first writes", _engines.trace_words(before, self.trace), "proc")
        )
        fallback = _engines.fallback_words(stderr, engine)
        if fallback:
            found["evidence"].append(evidence("stderr of QEMU during the I/O", fallback, "command"))
        found["observed"] = None if used is _NOT_WRITTEN else used
        if not direct:
            return
        if used is _NOT_WRITTEN:
            found.update(usable=False, outcome="refused", cause="io_error", reason="the write failed: %s" % (said[:500] or "QEMU said nothing"))
        elif used is None:
            found.update(reason="the I/O worked, but QEMU's process could not be read in /proc")
        elif used == engine:
            found.update(usable=True, outcome="works")
        else:
            exhausted = engine == "native" and (fallback is None or "Resource temporarily unavailable" in fallback)
            cause = "io_uring_refused" if engine == "io_uring" else "aio_exhausted" if exhausted else "kernel_refused"
            found.update(
                usable=False, outcome="falls_back", cause=cause,
                reason="QEMU accepts %s but uses %s in silence%s" % (engine, used, ": " + fallback if fallback else ""),
            )  # fmt: skip

    def _needs(self):
        """Devices, objects and machine types, mostly from answers that are there already."""
        target, machines, *objects = self.first
        self.target = target.value.get("arch") if target.ok and isinstance(target.value, dict) else None
        if self.target not in DEVICES:
            self._note("query-target", json.dumps(target.value) if target.ok else target.words)
            return
        self.result["machine_types"] = machine_types(items_of(machines), self.target)
        self.result["objects_missing"] = [name for name, answer in zip(OBJECTS, objects) if not answer.ok]
        missing = absent_devices(self.stderr, self.target)
        if missing is None or (missing and self.result["linkage"] != "static"):
            # This loads the modules that a distribution's QEMU may have them in; it takes its time.
            answer = self.session.ask("qom-list-types", {"implements": "device", "abstract": False})
            there = {item["name"] for item in items_of(answer)}
            missing = [name for name in DEVICES[self.target] if name not in there]
        self.result["devices_missing"] = missing
        if missing:
            self._note("device classes that Kata needs", "without %s" % ", ".join(missing))

    def _firmware(self):
        words = self.dirs.rest()
        status = self.dirs.wait()
        folders = [line for line in words.decode("utf-8", "replace").splitlines() if line.startswith("/")]
        asked = "%s -L help" % self.path
        if status != 0 or not folders:
            reason = "%s: %s" % (asked, "no answer in time" if status is None else "exit status %d, %r" % (status, words[:200]))
            self.result["firmware"] = {"search_paths": None, "missing": None, "found": {}, "reason": reason}
            return
        self._note(asked, "\n".join(folders), "command")
        self.result["firmware"] = firmware(folders, self.target)

    def _went_wrong(self, exc):
        # Only now, as hosts whose QEMU answers need not compile it
        from ansible_collections.kataops.aio.plugins.module_utils._qemu.failure import why_ended

        status, what, stderr, stdout = why_ended(exc, self.child, self.session, self.timeout, self.result["kind"] == "script")
        self._stop()
        self._set(status, what)
        for name, words in (("stderr", stderr), ("stdout", stdout)):
            if words:
                self._note("%s of %s" % (name, " ".join((self.path, *ARGUMENTS))), words, "command")

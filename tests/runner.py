# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the project's tests in two lanes side by side, and sums up. Started by tests/run.

One lane has whatever leaves the machine's kernel alone (noxfile.py's sessions, unit tests), the other has whatever needs disposable hosts or kernel
switches, one after another. Each step has its log below .cache/test.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from kataops_lab import kernel
from kataops_lab.places import CHECKOUT, LAB, cache, digest, locked

LOGS = CHECKOUT / ".cache" / "test"
VENV, NEWEST, OLDEST = CHECKOUT / ".venv", CHECKOUT / ".cache" / "venv-newest", CHECKOUT / ".cache" / "venv-oldest"
# Where noxfile.py's sessions work, and leave what they found
TREE = cache() / f"tree-{digest(str(CHECKOUT))}"
# A file of this name beside a molecule.yml names the versions of ansible-core (oldest, default, newest) that the scenario runs on
CORES = "cores"
# Only when they are named: the first builds QEMU several times over (half an hour), the second searches new inputs, the third kills 20 rollouts
BUILDS = "lab/builds"
ON_REQUEST = (BUILDS, "hunt", "molecule/rollout_killed")
BUILD_TESTS = "tests/integration_lab/test_qemu_build.py"
TAIL = 40
started = time.monotonic()
printing = threading.Lock()
running: set[subprocess.Popen] = set()


@dataclass
class Outcome:
    """How many tests passed, failed and were skipped, and why; `reasons` counts why tests were skipped."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    note: str = ""
    reasons: Counter = field(default_factory=Counter)


@dataclass
class Step:
    """One line of the summary. `count` makes an Outcome of the exit status and the log's text."""

    name: str
    command: list
    count: object = None
    environment: dict = field(default_factory=dict)
    folder: Path = CHECKOUT
    venv: Path = VENV
    kernel: bool = False  # holds the lock on the kernel's switches
    show: str = ""  # lines of its output that are shown at once (a regular expression)
    needs: object = None  # says why it has to be skipped, or nothing
    after: str = ""  # the step that has to have passed before
    seconds: float = 0.0
    outcome: Outcome | None = None

    @property
    def log(self):
        return LOGS / (re.sub(r"[^\w.-]+", "_", self.name) + ".log")

    @property
    def seconds_before(self):
        """How long it took the last time; None where that is not known."""
        took = self.log.with_suffix(".seconds")
        return float(took.read_text()) if took.exists() else None


def say(text):
    with printing:
        print(f"[{time.monotonic() - started:6.1f} s] {text}", flush=True)


# --- counting ---


def by_status(code, _text):
    return Outcome(passed=int(code == 0), failed=int(code != 0))


def skipped_or_status(code, text):
    """A nox session that skips itself says why."""
    skipped = re.search(r"^nox > Session \S+ skipped: (.*)$", text, re.MULTILINE)
    return Outcome(skipped=1, note=skipped[1].rstrip(".")) if code == 0 and skipped else by_status(code, text)


def junit(*patterns):
    """Counts the test cases of junit files; a failing exit status counts even where no case failed."""

    def count(code, text):
        if (skipped := skipped_or_status(code, text)).skipped:
            return skipped
        total = Outcome()
        for path in (found for pattern in patterns for found in sorted(pattern.parent.glob(pattern.name))):
            for suite in xml.etree.ElementTree.parse(path).getroot().iter("testsuite"):
                cases, bad, skipped = (int(suite.get(key) or 0) for key in ("tests", "failures", "skipped"))
                bad += int(suite.get("errors") or 0)
                total.passed += cases - bad - skipped
                total.failed += bad
                total.skipped += skipped
                total.reasons.update(case.get("message") or "no reason given" for case in suite.iter("skipped"))
        if code != 0 and not total.failed:
            total.failed, total.note = 1, f"exit status {code}"
        elif code == 0 and not total.passed + total.skipped:
            total.failed, total.note = 1, "it counted no test at all"
        return total

    return count


def sanity(code, text):
    """ansible-test sanity: each test (on each Python, where it has several) that ran; those that failed are listed after its last error."""
    ran = len(re.findall(r'^Running sanity test "', text, re.MULTILINE))
    listed = re.search(r"The (\d+) sanity test\(s\) listed below .*\n([\s\S]*)", text)
    failed = int(listed[1]) if listed else int(code != 0)
    return Outcome(passed=max(ran - failed, 0), failed=failed, note=", ".join(listed[2].split("\n")[:failed]) if listed else "")


# --- the steps ---


def core(venv):
    """The version of ansible-core in an environment."""
    found = list(venv.glob("lib/python*/site-packages/ansible_core-*.dist-info"))
    return found[0].name.removeprefix("ansible_core-").removesuffix(".dist-info") if found else None


def nox_step(name, session, **more):
    return Step(name, ["nox", "-s", session], **more)


def lint_steps():
    sessions = ("lint", "types", "docs", "build", "importer", "execution-environment")
    return [nox_step(f"lint/{session}" if session != "lint" else "lint/style", session, count=skipped_or_status) for session in sessions]


def pytest_step(name, venv, folders, **more):
    report = LOGS / f"{name.replace('/', '_')}.xml"
    command = ["pytest", "-q", "-p", "no:cacheprovider", "--color=no", f"--junitxml={report}", *folders]
    environment = {"ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / "collections"), **more.pop("environment", {})}
    return Step(name, command, count=junit(report), environment=environment, venv=venv, **more)


def unit_steps():
    """Everything on the default and the newest ansible-core; ansible-test's own run on the newest; what runs on managed nodes on their Pythons."""
    folders = [name for name in ("tests/unit", "tests/contract", "tests/playbooks", "tests/hostile") if any((CHECKOUT / name).rglob("test_*.py"))]
    steps = [pytest_step("unit/core-" + core(VENV), VENV, folders)]
    steps.append(pytest_step("unit/core-newest", NEWEST, folders, needs=no_newest, environment={"KATAOPS_FEW_EXAMPLES": "1"}))
    for session in ("units-2.21", *(f"nodes-{version}" for version in ("3.8", "3.9", "3.10", "3.12"))):
        report = TREE / session / "ansible_collections" / "kataops" / "aio" / "tests" / "output" / "junit" / "python*.xml"
        steps.append(nox_step(f"unit/{session}", session, count=junit(report)))
    return steps


def hunt_steps():
    """The properties of the hostile suite with new inputs, thousands for each (KATAOPS_HUNT)."""
    step = pytest_step("hunt", VENV, ["tests/hostile", "-m", "not lab", "--hypothesis-profile=hunt"])
    return [step]


def no_oldest():
    """The oldest ansible-core that the collection supports."""
    subprocess.run([str(LAB / "env"), "--oldest"], check=True, stdin=subprocess.DEVNULL)


def no_newest():
    """The newest ansible-core needs a newer Python than Debian 12's; made only when there is one."""
    done = subprocess.run([str(LAB / "env"), "--newest"], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode == 0:
        return None
    if "no Python of the versions" in done.stderr:
        return "this machine has no Python >= 3.12 for a newer ansible-core than " + core(VENV)
    raise RuntimeError(done.stderr.strip())


def sanity_steps():
    """ansible-test sanity as a whole on every supported ansible-core, and on the next one."""
    return [nox_step(f"sanity/{version}", f"sanity-{version}", count=sanity) for version in ("2.16", "2.17", "2.18", "2.19", "2.20", "2.21", "2.22")]


def lab_steps():
    if not any((CHECKOUT / "tests" / "integration_lab").glob("test_*.py")):
        return []
    qemus = {
        "KATAOPS_LAB_QEMUS": lambda: last_line("lab/qemus"),
        "KATAOPS_LAB_NEW_ROOT": lambda: last_line("lab/qemus") + "/newest-root",
    }
    return [
        Step("lab/qemus", [LAB / "lab", "qemu"], show=r"lab: |\[\d+/\d+\]"),
        pytest_step("lab/tests", VENV, ["tests/integration_lab", f"--ignore={BUILD_TESTS}"], environment=qemus, after="lab/qemus"),
        pytest_step(BUILDS, VENV, [BUILD_TESTS], environment=qemus, after="lab/qemus"),
    ]


def last_line(name):
    """What a finished step printed last."""
    text = (LOGS / (name.replace("/", "_") + ".log")).read_text().strip()
    return text.splitlines()[-1] if text else ""


def scenarios():
    return [path.parent.name for path in sorted((CHECKOUT / "molecule").glob("*/molecule.yml")) if path.parent.name != "default"]


def molecule_step(scenario, name, venv, **more):
    return Step(name, ["molecule", "test", "-s", scenario], environment=molecule_environment(), venv=venv, kernel=True, **more)


def molecule_environment():
    return {"MOLECULE_GLOB": "molecule/*/molecule.yml", "KATAOPS_ARTIFACTS": str(cache() / "artifacts")}


def molecule_steps():
    steps = []
    for scenario in scenarios():
        named = CHECKOUT / "molecule" / scenario / CORES
        for which in named.read_text().split() if named.exists() else ["default"]:
            steps.append({
                "default": lambda name=scenario: molecule_step(name, f"molecule/{name}", VENV),
                "oldest": lambda name=scenario: molecule_step(name, f"molecule/{name}/core-oldest", OLDEST, needs=no_oldest),
                "newest": lambda name=scenario: molecule_step(name, f"molecule/{name}/core-newest", NEWEST, needs=no_newest),
            }[which]())  # fmt: skip
    return steps


# --- running ---


def environment_of(step):
    path = os.pathsep.join([str(step.venv / "bin"), str(CHECKOUT / ".cache" / "pybin"), os.environ["PATH"], "/usr/sbin", "/sbin"])
    settings = {"PATH": path, "NO_COLOR": "1", "PY_COLORS": "0", "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    settings.update({name: str(value() if callable(value) else value) for name, value in step.environment.items()})
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "MOLECULE_"))}
    return {**kept, **settings}


def execute(step):
    """Runs the step's command with its output in its log; returns its exit status."""
    step.log.with_suffix(".xml").unlink(missing_ok=True)
    shown = re.compile(step.show) if step.show else None
    with open(step.log, "w", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(
            [str(part) for part in step.command], cwd=step.folder, env=environment_of(step), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
        running.add(process)
        try:
            for line in process.stdout:
                log.write(line)
                log.flush()
                if shown and shown.search(line):
                    say(f"     {step.name}: {line.strip()}")
            return process.wait()
        finally:
            running.discard(process)


def do(step, steps):
    """Runs one step, whatever happens in it, and says how it went."""
    began = time.monotonic()
    try:
        before = next((other for other in steps if other.name == step.after), None)
        reason = f"{before.name} failed" if before and before.outcome.failed else step.needs() if step.needs else None
        if reason:
            step.outcome = Outcome(skipped=1, note=reason)
        else:
            say(f"     {step.name} ...")
            if step.kernel:
                with kernel.exclusive():
                    code = execute(step)
                    kernel.restore(forget=False)
            else:
                code = execute(step)
            step.outcome = (step.count or by_status)(code, step.log.read_text(encoding="utf-8", errors="replace"))
    except Exception as error:  # noqa: BLE001 - a step that cannot run is a failed step, not the end of the others
        step.outcome = Outcome(failed=1, note=str(error).splitlines()[-1] if str(error) else type(error).__name__)
    step.seconds = time.monotonic() - began
    if not step.outcome.failed:
        step.log.with_suffix(".seconds").write_text(f"{step.seconds:.1f}")
    say(line_of(step))


def line_of(step):
    one = step.outcome
    word = "FAIL" if one.failed else "ok" if one.passed else "skip"
    counts = f"{one.passed:>5} passed {one.failed:>3} failed {one.skipped:>3} skipped"
    return f"{word:<4} {step.name:<34} {counts} {step.seconds:7.1f} s  {one.note}".rstrip()


def lanes(steps):
    """The steps that need hosts or the kernel's switches, one after another; beside them all others."""
    hosts = [step for step in steps if step.name.startswith(("lab/", "molecule/"))]
    return [lane for lane in ([step for step in steps if step not in hosts], hosts) if lane]


def stop_children(*_signal):
    for process in list(running):
        try:
            os.killpg(process.pid, signal.SIGTERM)
        except ProcessLookupError:
            continue
    say("stopped; hosts that are left are replaced by the next run (tests/lab/lab down --all removes them)")
    os._exit(130)


def summary(steps):
    for step in steps:
        if step.outcome.failed and step.log.exists():
            print(f"\n--- {step.name}: the last {TAIL} lines of {step.log}")
            print("\n".join(step.log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:]))
    print("\n" + "=" * 100)
    for step in steps:
        print(line_of(step))
    passed, failed, skipped = (sum(getattr(step.outcome, key) for step in steps) for key in ("passed", "failed", "skipped"))
    for reason, count in sum((step.outcome.reasons for step in steps), Counter()).most_common():
        print(f"skipped {count:>3}: {' '.join(reason.split())[:160]}")
    print("=" * 100)
    print(f"{time.monotonic() - started:.0f} s, ansible-core {', '.join(version for version in map(core, (OLDEST, VENV, NEWEST)) if version)}")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


def main():
    parser = argparse.ArgumentParser(prog="tests/run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="groups or steps: lint, sanity, unit, lab, molecule, molecule/NAME, sanity/2.16 ...")
    parser.add_argument("--list", action="store_true", help="only list the steps")
    parser.add_argument("--molecule", nargs=2, metavar=("SCENARIO", "ACTION"), help="one action of a scenario: create, converge, destroy, ...")
    asked = parser.parse_args()
    if asked.molecule:
        subprocess.run([str(LAB / "env"), "--lab"], check=True, stdin=subprocess.DEVNULL)
        scenario, action = asked.molecule
        step = Step("", [], environment=molecule_environment())
        os.chdir(CHECKOUT)
        os.execvpe(VENV / "bin" / "molecule", ["molecule", action, "-s", scenario], environment_of(step))
    LOGS.mkdir(parents=True, exist_ok=True)
    steps = [*lint_steps(), *unit_steps(), *hunt_steps(), *sanity_steps(), *lab_steps(), *molecule_steps()]
    wanted = [name for given in asked.only for name in given.split(",") if name]
    unknown = [name for name in wanted if not any(step.name == name or step.name.startswith(f"{name}/") for step in steps)]
    if unknown:
        parser.error(f"no such tests: {', '.join(unknown)}; known: {', '.join(step.name for step in steps)}")
    if not wanted:
        steps = [step for step in steps if step.name not in ON_REQUEST or asked.list]
    else:
        steps = [step for step in steps if any(step.name == name or step.name.startswith(f"{name}/") for name in wanted)]
        if any(step.name in ("lab/tests", BUILDS) for step in steps) and not any(step.name == "lab/qemus" for step in steps):
            steps = [*[step for step in lab_steps() if step.name == "lab/qemus"], *steps]
    if asked.list:
        print("\n".join(step.name for step in steps))
        return 0
    with contextlib.ExitStack() as stack:
        if any(step.command[0] == "nox" for step in steps):
            stack.enter_context(locked(TREE.with_name(f".{TREE.name}.lock")))
        return run_all(steps)


def forecast(steps):
    """How long it is going to take, by the logs of the last run."""
    known = [step for step in steps if step.seconds_before is not None]
    if len(known) < len(steps) * 0.8:
        return "about an hour the first time on 2 cores, half an hour after that"
    longest = max(sum(step.seconds_before or 0 for step in lane) for lane in lanes(steps))
    return f"about {max(round(longest / 60), 1)} min, as the last time"


def run_all(steps):
    signal.signal(signal.SIGINT, stop_children)
    signal.signal(signal.SIGTERM, stop_children)
    if any(step.name.startswith("sanity/") for step in steps):
        # ansible-test passes over a missing shellcheck without a failure
        subprocess.run([str(LAB / "env"), "--lint"], check=True, stdin=subprocess.DEVNULL)
    if any(step.name.startswith(("lab/", "molecule/")) for step in steps):
        subprocess.run([str(LAB / "env"), "--lab"], check=True, stdin=subprocess.DEVNULL)
    if any(step.name == "lab/tests" for step in steps):
        # Tests that lack something of the machine are skipped, and that is no result
        subprocess.run([str(LAB / "env"), "--tests"], check=True, stdin=subprocess.DEVNULL)
    say(f"     {len(steps)} steps; {forecast(steps)}. Each step's log: {LOGS}")
    side_by_side = lanes(steps)
    with ThreadPoolExecutor(max_workers=len(side_by_side)) as pool:
        for finished in [pool.submit(lambda lane=lane: [do(step, steps) for step in lane]) for lane in side_by_side]:
            finished.result()
    return summary(steps)


if __name__ == "__main__":
    sys.exit(main())

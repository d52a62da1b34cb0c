# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's public variables (``kata_aio_*``), as data, and their check. PRIVATE to kataops.aio.

``docs/variables.md`` is generated from this file. A default of None means that the module or role that uses the variable has the default.
"""

from __future__ import annotations

import difflib
import typing as t

PREFIX = "kata_aio_"


class Input(t.NamedTuple):
    """One public variable. ``type`` is one of str, path, int, bool, list, count (an int or a percentage such as ``10%``)."""

    type: str
    meaning: str
    default: str | None = None
    choices: tuple[str, ...] = ()


INPUTS: dict[str, Input] = {
    "kata_aio_hosts": Input("str", "The hosts that the playbooks act on (a host pattern).", "all"),
    "kata_aio_engine": Input(
        "str", "The engine that the fleet should use; auto: the one that each runtime asks for.", "auto", ("auto", "native", "io_uring", "threads")
    ),
    "kata_aio_storage_path": Input("path", "The folder that holds the images behind block devices.", "/var/lib/containerd"),
    "kata_aio_headroom": Input("int", "How many more sandboxes must fit under fs.aio-max-nr.", "128"),
    "kata_aio_max_nr": Input("int", "What fs.aio-max-nr is raised to, in events (1024 for each AioContext).", "1048576"),
    "kata_aio_strategies": Input(
        "list",
        "The strategies to a working QEMU, tried in this order.",
        "[configuration, reuse, replace, rebuild]",
        ("configuration", "reuse", "replace", "rebuild"),
    ),
    "kata_aio_allow_fallback": Input("bool", "Whether io_uring or threads may be set where no strategy leads to the wanted engine.", "false"),
    "kata_aio_artifact": Input(
        "str",
        "For the strategy replace: a packed QEMU tree, or a Kata release (`kata-static-<release>-<arch>.tar.{xz,zst}`); a path on the controller, or a URL.",
    ),
    "kata_aio_artifact_sha256": Input("str", "Its SHA-256; required with a URL."),
    "kata_aio_package": Input("bool", "Whether the strategy replace may install the distribution's QEMU package (apt, dnf) on the hosts.", "false"),
    "kata_aio_artifacts_dir": Input("path", "Where built trees are kept on the controller.", "~/.cache/kataops-aio/artifacts"),
    "kata_aio_builder": Input("str", "The host that builds QEMU; by default the first host of that architecture that needs it."),
    "kata_aio_method": Input("str", "How Kata's configuration is changed.", "auto", ("auto", "drop_in", "base_file")),
    "kata_aio_exclude": Input(
        "list",
        "Runtimes to leave alone: patterns (`kata-debug*`) over the names of their handlers, or over the paths of their configuration files.",
        "[]",
    ),
    "kata_aio_containerd_configs": Input("list", "Further containerd or CRI-O configuration files of unusual installations.", "[]"),
    "kata_aio_trusted_owners": Input(
        "list", "Users of the hosts, by name or number, whose files are trusted like root's: each can become root there (docs/security.md).", "[]"
    ),
    "kata_aio_timeout": Input("int", "Seconds that one QEMU binary may take to answer a probe.", "10"),
    "kata_aio_task_timeout": Input("int", "Seconds that a task may take on a host that is changed; it fails then. (Looking at a host: 600.)", "600"),
    "kata_aio_waves": Input("list", "Sizes of the waves, as Ansible's serial has them.", "[1, 10%, 50%, 100%]"),
    "kata_aio_failure_budget": Input("count", "How many hosts may fail, be taken back or get lost before the rollout stops.", "0"),
    "kata_aio_soak": Input("int", "Seconds to wait after each wave before its health check.", "0"),
    "kata_aio_before_host": Input("list", "Task files to run before a host is changed.", "[]"),
    "kata_aio_after_host": Input("list", "Task files to run after a host was changed and proved.", "[]"),
    "kata_aio_before_wave": Input("list", "Task files to run once before a wave.", "[]"),
    "kata_aio_after_wave": Input("list", "Task files to run once after a wave, before its gate.", "[]"),
    "kata_aio_bench_size": Input("int", "MiB of the file that benchmark writes and reads; twice as much has to be free.", "256"),
    "kata_aio_bench_seconds": Input("int", "Seconds that benchmark writes, and reads, with each engine in each of three rounds.", "2"),
    "kata_aio_report_dir": Input("path", "Where reports are written on the controller.", "./kata-aio-report"),
    "kata_aio_report_formats": Input("list", "Formats of the report.", "[json, html]", ("json", "html", "markdown", "csv", "junit", "prometheus")),
    "kata_aio_query": Input(
        "str", "A JMESPath expression over the report, for a view of one's own: its answer is shown and written as `kata-aio-report.query.json`."
    ),
    "kata_aio_fail_on": Input("str", "The verdict from which on a playbook ends with an error.", "broken", ("broken", "degraded", "never")),
}

#: Names with our prefix that the playbooks set themselves.
INTERNAL = (
    "kata_aio_before",
    "kata_aio_benchmark",  # benchmark's set_stats
    "kata_aio_benchmark_made",
    "kata_aio_build",  # build's set_stats, which AWX hands to the next job of a workflow as a variable
    "kata_aio_builds",
    "kata_aio_end",
    "kata_aio_inputs",
    "kata_aio_measured",
    "kata_aio_outcome",
    "kata_aio_proof",
    "kata_aio_rollout",
    "kata_aio_wave_hosts",
    "kata_aio_way",
    "kata_aio_ways",
)

#: What variables of the first edition are called now; a value of theirs is refused with the new name, never silently ignored.
RENAMED = {
    "kata_aio_roads": "kata_aio_strategies",
    "kata_aio_fall_back": "kata_aio_allow_fallback",
}

_TRUE_FALSE = ("yes", "no", "on", "off", "true", "false", "1", "0")


def _is_count(value: t.Any) -> bool:
    text = str(value)
    return not isinstance(value, bool) and (text.isdigit() or (text.endswith("%") and text[:-1].isdigit() and int(text[:-1]) <= 100))


def _fits(kind: str, value: t.Any) -> bool:
    if kind in ("str", "path"):
        return isinstance(value, str) and bool(value)
    if kind == "int":
        return not isinstance(value, bool) and str(value).isdigit()
    if kind == "bool":
        return isinstance(value, bool) or str(value).lower() in _TRUE_FALSE
    if kind == "count":
        return _is_count(value)
    return isinstance(value, (list, tuple))


_EXPECTED = {
    "int": "a whole number",
    "bool": "true or false",
    "count": "a whole number, or a percentage such as 10%",
    "list": "a list",
    "str": "a text",
    "path": "a path",
}


def _unknown(name: str) -> str:
    if name in RENAMED:
        return "%s is now called %s" % (name, RENAMED[name])
    close = difflib.get_close_matches(name[len(PREFIX) :], [known[len(PREFIX) :] for known in INPUTS], n=1)
    return "%s is not a variable of kataops.aio%s" % (name, "; did you mean %s%s?" % (PREFIX, close[0]) if close else " (docs/variables.md lists them)")


def problems(variables: t.Mapping[str, t.Any]) -> list[str]:
    """Every mistake in the ``kata_aio_*`` variables, one sentence each; values that are still templates are not judged."""
    found = []
    for name in sorted(variables):
        if not name.startswith(PREFIX) or name in INTERNAL:
            continue
        if name not in INPUTS:
            found.append(_unknown(name))
            continue
        value, wanted = variables[name], INPUTS[name]
        if isinstance(value, str) and "{{" in value:
            continue
        if not _fits(wanted.type, value):
            # With -e NAME=... every value is a text
            form = ", on the command line -e '{\"%s\": [...]}'" % name if wanted.type == "list" and isinstance(value, str) else ""
            found.append("%s is %r; expected %s%s" % (name, value, _EXPECTED[wanted.type], form))
            continue
        values = value if wanted.type == "list" else [value]
        wrong = [v for v in values if wanted.choices and v not in wanted.choices]
        if wrong:
            found.append("%s has %r; expected %s" % (name, wrong[0], ", ".join(wanted.choices)))
        elif name == "kata_aio_waves" and not (value and all(_is_count(v) for v in value)):
            found.append("%s is %r; expected whole numbers or percentages such as [1, 10%%, 100%%]" % (name, value))
        elif name == "kata_aio_exclude" and not all(isinstance(v, str) and v for v in value):
            found.append("%s is %r; expected names of handlers or paths of configuration files, or patterns of them such as kata-debug*" % (name, value))
    return found + _contradictions(variables)


def _contradictions(variables: t.Mapping[str, t.Any]) -> list[str]:
    found = []
    artifact = variables.get("kata_aio_artifact")
    if isinstance(artifact, str) and "://" in artifact and not variables.get("kata_aio_artifact_sha256"):
        found.append("kata_aio_artifact is a URL without kata_aio_artifact_sha256; expected the checksum of what the URL gives")
    strategies = variables.get("kata_aio_strategies")
    package = str(variables.get("kata_aio_package")).lower() in ("true", "yes", "on", "1")
    if isinstance(strategies, (list, tuple)) and list(strategies) == ["replace"] and not artifact and not package:
        found.append("kata_aio_strategies allows only replace, but neither kata_aio_artifact nor kata_aio_package says with what")
    engine, allow_fallback = variables.get("kata_aio_engine"), variables.get("kata_aio_allow_fallback")
    if engine == "threads" and str(allow_fallback).lower() in ("true", "yes", "on", "1"):
        found.append("kata_aio_allow_fallback has no meaning with kata_aio_engine threads, which works everywhere")
    return found

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the reference pages that are made from data: rules, variables, platforms, compatibility.

Run by ``make docs``; tests/contract/test_reference.py fails where a page is not what this script writes.
"""

from __future__ import annotations

import pathlib

from ansible_collections.kataops.aio.plugins.module_utils._kata import places
from ansible_collections.kataops.aio.plugins.plugin_utils._judge.rules import by_id
from ansible_collections.kataops.aio.plugins.plugin_utils._kata import keys, releases, toml, validate
from ansible_collections.kataops.aio.plugins.plugin_utils._rollout.inputs import INPUTS

DOCS = pathlib.Path(__file__).resolve().parent
GENERATED = "<!-- Made by docs/generate.py from the collection's own data; do not edit. -->"

SEVERITIES = {
    "error": "a sandbox, or a block device in it, fails: the verdict is **broken**",
    "warning": "it works, but not as asked, or not for long: the verdict is **degraded**",
    "info": "worth knowing; it never changes a verdict",
}


def rules_page() -> str:
    """The catalogue of findings."""
    lines = ["# The rules", "", GENERATED, "", "Every finding of an audit is one of these. Severities:", ""]
    lines += ["* %s: %s" % item for item in SEVERITIES.items()]
    lines += ["", "| id | severity | finding |", "|---|---|---|"]
    lines += ["| [%s](#%s) | %s | %s |" % (r.id, r.id.lower(), r.severity, r.title) for r in by_id()]
    for rule in by_id():
        lines += ["", "## %s" % rule.id, "", "**%s** (%s)" % (rule.title, rule.severity), "", rule.why, "", "*Remedy:* %s" % rule.remedy]
    return "\n".join(lines) + "\n"


def variables_page() -> str:
    """The public variables of the playbooks."""
    lines = [
        "# The variables",
        "",
        GENERATED,
        "",
        "The playbooks read these, from the inventory or with `-e`. A name with our prefix that is not here is refused before any host is touched.",
        "",
        "| variable | type | default | meaning |",
        "|---|---|---|---|",
    ]
    for name, wanted in INPUTS.items():
        default = "" if wanted.default is None else "`%s`" % wanted.default
        choices = " One of %s." % ", ".join("`%s`" % choice for choice in wanted.choices) if wanted.choices else ""
        lines.append("| `%s` | %s | %s | %s%s |" % (name, wanted.type, default, wanted.meaning, choices))
    return "\n".join(lines) + "\n"


def platforms_page() -> str:
    """Where Kata lives, by who installed it."""
    lines = ["# Where Kata lives", "", GENERATED, ""]
    lines += [
        "A shim that is told no configuration file reads `%s/configuration.toml`, else `configuration.toml` in the folder that its packager compiled into it."
        % places.OVERRIDES,
        "`kata_aio_facts` looks into all of these folders (and into `runtime-rs`, `runtimes/*` and `custom-runtimes/*` below them), wherever a handler does",
        "not name its file itself. A file elsewhere that no handler names is told with `kata_aio_containerd_configs`.",
        "",
        "| base files | installed by | its shims begin with | source |",
        "|---|---|---|---|",
    ]
    for place in places.PLACES:
        lines.append("| `%s` | %s | %s | %s |" % (place.folder, place.installer, ", ".join("`%s`" % shim for shim in place.shims), place.source))
    return "\n".join(lines) + "\n"


RUNTIMES = {"go": "the Go runtime", "rs": "runtime-rs"}

COMPATIBILITY = """What the collection knows of Kata's own configuration loaders, by runtime and release: what it reads as they do, and what it leaves
to them. `kata_aio_facts`
says of each runtime whether Kata refuses its configuration (`refused`), and `unknown` with the reason where that cannot be told: a file could not be
read, the release is
not known or newer than these tables, or Kata itself takes one of several spellings or hypervisors at random. Known releases: 2.5.0 to %s.

## Files

* Both runtimes read the base file after all symbolic links, then every entry of the `config.d` beside it in the byte order of names, whatever its
  name; no suffix is looked at.
* A folder, a socket, a dangling link or a file that is not TOML in `config.d` is refused by both; a FIFO hangs the Go runtime; a symbolic link is
  refused by runtime-rs only.
* The Go runtime takes names of the base file in any letter case; a drop-in's in `[hypervisor.NAME]` and `[agent.NAME]` by their exact names only, and
  refuses one there
  that the release does not have. runtime-rs takes exact names only, ignores what it does not know, and refuses it in the tables below.
* runtime-rs checks every `[hypervisor.NAME]` table of the merged files, selected or not. The Go runtime checks every one too, and takes one of
  several at random.
"""

NOT_MODELLED = """## Not modelled: "if Kata accepts the rest"

The collection makes no claim about these, which a runtime may refuse all the same:

* what is in the files that a configuration names (kernel, image, initrd, firmware): only that they exist, and for the Go runtime that an image or
  initrd is not empty;
* the defaults of a build for paths that a configuration does not set (the Go runtime's kernel);
* `/dev/vhost-vsock`, the host's memory and processors, NUMA (`enable_numa`), the socket of the remote hypervisor, dm-verity parameters;
* annotations of pods, `sandbox_bind_mounts` with a mode, `numa_mapping`, rules of other architectures;
* runtime-rs: an array in place of a table, OpenVMM's plug-in (both are `unknown`); whether a build has Cloud Hypervisor's and Dragonball's plug-ins
  (official builds have).
"""


def _span(since: str | None, until: str | None) -> str:
    if since and until:
        return "%s to %s" % (since, until)
    return "from %s" % since if since else "up to %s" % until if until else "all"


def _before(since: str | None, until: str | None) -> str:
    if since and until:
        return "from %s, before %s" % (since, until)
    return "from %s" % since if since else "before %s" % until if until else "all"


def compatibility_page() -> str:
    """What is known of Kata's loaders."""
    lines = ["# Compatibility with Kata's configuration loaders", "", GENERATED, "", COMPATIBILITY % releases.NEWEST_KNOWN.replace(".999", ".0")]
    lines += ["## TOML", "", "| runtime | a byte order mark | the character U+FFFD | TOML 1.1 |", "|---|---|---|---|"]
    for runtime, name in RUNTIMES.items():
        since = toml.DIALECTS[runtime]
        lines.append("| %s | %s | %s | %s |" % (name, *(_span(since[key], None) for key in ("byte_order_mark", "replacement_character", "toml_1_1"))))
    lines += ["", "An integer beyond 64 bits is refused by both, in a key that is ignored too.", "", "## Hypervisors", ""]
    lines += ["| runtime | table | releases |", "|---|---|---|"]
    for runtime, name in RUNTIMES.items():
        lines += ["| %s | `[hypervisor.%s]` | %s |" % (name, table, _before(*span)) for table, span in validate.HYPERVISORS[runtime].items()]
    lines += ["| runtime-rs | `[hypervisor.%s]` | from %s, where the build has it |" % item for item in validate.RS_OPTIONAL.items()]
    lines += ["", "## Values", "", "Another value than these is refused; an empty one is the default.", ""]
    lines += ["| runtime | tables | key | values | releases |", "|---|---|---|---|---|"]
    for choice in validate.CHOICES:
        where = ", ".join("hypervisor.%s" % name for name in choice.hypervisors) or "runtime"
        words = ", ".join("`%s`" % word for word in choice.allowed)
        lines.append("| %s | %s | `%s` | %s | %s |" % (RUNTIMES[choice.runtime], where, choice.key, words, _before(choice.since, choice.until)))
    lines += ["", "Files that must exist where a key names one:", ""]
    for (runtime, hypervisor), names in validate.FILES.items():
        where = "`[hypervisor.%s]`" % hypervisor if hypervisor else "every hypervisor"
        lines.append("* %s, %s: %s" % (RUNTIMES[runtime], where, ", ".join("`%s`" % name for name in names)))
    lines += ["", "## Keys", ""]
    lines += ["runtime-rs refuses unknown keys in: %s." % ", ".join("`%s` from %s" % item for item in keys.RS_STRICT.items())]
    for runtime, tables in (("go", keys.GO), ("rs", keys.RS)):
        for section in tables:
            lines += ["", "### %s, `%s`" % (RUNTIMES[runtime][0].upper() + RUNTIMES[runtime][1:], section), "", "| key | type | releases |", "|---|---|---|"]
            for key, rows in sorted(keys.table(runtime, section).items()):
                for row in rows:
                    kind = "as `%s`" % row.type[1:] if row.type.startswith("=") else "`%s`" % row.type.rstrip("!")
                    lines.append("| `%s` | %s | %s |" % (key, kind, _span(row.since, row.until)))
    return "\n".join(lines) + "\n\n" + NOT_MODELLED


PAGES = {"platforms.md": platforms_page, "kata-compatibility.md": compatibility_page, "rules.md": rules_page, "variables.md": variables_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")

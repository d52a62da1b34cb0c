# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a shell wrapper around QEMU leads, by its text. PRIVATE to kataops.aio. Nothing is run."""

from __future__ import annotations

import os
import re
import shlex

_ASSIGNMENT = r"^(?:export\s+|readonly\s+|local\s+)?([A-Za-z_]\w*)=(.*)$"
_VARIABLE = r"\$\{([A-Za-z_]\w*)\}|\$([A-Za-z_]\w*)"


def parse_wrapper(text):
    """Where a shell wrapper leads, as far as its text tells (kata-deploy 3.9 and later: ``exec <real> "$@" -L <folder>``).

    Only plain assignments are followed; a text that computes its target gives None, and running it tells.

    :returns: ``(target or None, [folders of -L])``.
    """
    variables = {}
    for words in _commands(text):
        rest = list(words)
        while rest and re.match(_ASSIGNMENT, rest[0]):
            name, value = re.match(_ASSIGNMENT, rest.pop(0)).groups()
            variables[name] = _expand(value, variables)
        if rest and rest[0] in ("export", "readonly", "local", "declare"):
            for word in rest[1:]:
                match = re.match(_ASSIGNMENT, word)
                if match:
                    variables[match.group(1)] = _expand(match.group(2), variables)
            continue
        expanded = [_expand(word, variables) for word in rest]
        # What follows an option is its value (a folder of firmware or libraries).
        programs = [
            word
            for number, word in enumerate(expanded)
            if word.startswith("/") and "$" not in word and "`" not in word and not (number and expanded[number - 1].startswith("-"))
        ]
        ours = [word for word in programs if "qemu" in os.path.basename(word)]
        if not ours and not ("$@" in expanded or "$*" in expanded or "${@}" in expanded):
            continue
        if not ours:
            ours = programs[:1] if expanded and expanded[0] in ("exec", programs[0] if programs else None) else []
        if ours:
            folders = [expanded[number + 1] for number, word in enumerate(expanded[:-1]) if word == "-L"]
            folders += [word[2:] for word in expanded if word.startswith("-L") and len(word) > 2]
            return ours[0], folders
    return None, []


def _commands(text):
    """Split a shell text into words of simple commands, roughly: one line, one command; what shlex cannot split is left out."""
    for line in text.replace("\\\n", " ").splitlines()[1:]:
        for part in re.split(r";|&&|\|\|", line):  # no blanks in the pattern: a long run of them would take the square of its length
            try:
                words = shlex.split(part.strip(), comments=True)
            except ValueError:
                continue
            if words:
                yield words


def _expand(word, variables):
    """Replace the variables that are known; others stay as they are written."""
    return re.sub(_VARIABLE, lambda match: variables.get(match.group(1) or match.group(2), match.group(0)), word[:4096])[:4096]

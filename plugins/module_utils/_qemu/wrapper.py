# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a shell wrapper around QEMU leads, by its text. PRIVATE to kataops.aio. Nothing is run.

A wrapper is a program: only the word in the place of a command counts, after what runs another command (``exec``, ``env``, ``taskset`` ...). What a
line redirects to, or hands to another command, is no target. Where the text does not tell (conditions, functions, ``eval``, a path that is computed),
there is no answer, and running the wrapper tells.
"""

from __future__ import annotations

import os
import re
import shlex

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)\+?=(.*)\Z", re.S)
_VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)\}|\$([A-Za-z_]\w*)")
#: All arguments of the wrapper, or of an array that it made of them.
_ALL_ARGUMENTS = re.compile(r"\$[@*]|\$\{[@*]\}|\$\{\w+\[[@*]\]\}")
_LONGEST = 4096

#: Commands that run the command after them: which of their options take a value, and how many words of their own come before that command.
_RUNNERS = {
    "exec": (("-a",), 0),
    "command": ((), 0),
    "builtin": ((), 0),
    "nohup": ((), 0),
    "time": ((), 0),
    "env": (("-u", "--unset", "-C", "--chdir"), 0),
    "nice": (("-n", "--adjustment"), 0),
    "ionice": (("-c", "--class", "-n", "--classdata"), 0),
    "chrt": (("-T", "-P", "-D"), 1),
    "taskset": ((), 1),
    "numactl": (("-i", "-m", "-N", "-C", "-p", "-l"), 0),
    "timeout": (("-k", "--kill-after", "-s", "--signal"), 1),
    "setpriv": (("--reuid", "--regid", "--groups", "--inh-caps", "--ambient-caps", "--bounding-set", "--securebits", "--pdeathsig"), 0),
    "setsid": ((), 0),
    "stdbuf": (("-i", "-o", "-e"), 0),
    "unshare": ((), 0),
    "prlimit": ((), 0),
    "systemd-run": (("-p", "--property", "--slice", "--unit"), 0),
}
#: The dynamic loader runs a program, too.
_LOADER = re.compile(r"ld-(?:linux|musl)[\w.-]*\Z")
_LOADER_OPTIONS = ("--library-path", "--preload", "--argv0", "--audit", "--inhibit-rpath")
#: With one of these in it a text does not tell by itself which command is reached.
_FLOW = frozenset(("if", "then", "elif", "else", "fi", "for", "while", "until", "do", "done", "case", "esac", "function", "eval", "source", ".", "select"))
_DECLARES = ("export", "readonly", "local", "declare", "typeset")
_SEPARATORS = frozenset(";&|\n()")


def parse_wrapper(text: str) -> tuple[str | None, list[str]]:
    """Where a shell wrapper leads, as far as its text tells (kata-deploy 3.9 and later: ``exec <real> "$@" -L <folder>``).

    :returns: ``(target or None, [folders of -L])``.
    """
    variables: dict[str, str] = {}
    candidates: list[tuple[int, str, list[str]]] = []
    told = True
    for words in _commands(text):
        rest, flow = _after_keywords(words)
        told = told and not flow
        while rest and _ASSIGNMENT.match(rest[0]):
            name, value = _ASSIGNMENT.match(rest.pop(0)).groups()
            variables[name] = _expand(value, variables)
        if rest and rest[0] in _DECLARES:
            for match in filter(None, map(_ASSIGNMENT.match, rest[1:])):
                variables[match.group(1)] = _expand(match.group(2), variables)
            continue
        found = _command([_expand(word, variables) for word in rest])
        if found:
            candidates.append(found)
    best = max((rank for rank, _target, _arguments in candidates), default=0)
    # Of commands that come one after another the last one counts; of alternatives none, unless they are the same.
    chosen = [(target, arguments) for rank, target, arguments in candidates if rank == best]
    if not chosen or (not told and len({target for target, _arguments in chosen}) > 1):
        return None, []
    target, arguments = chosen[-1]
    if "$" in target or "`" in target or not target.startswith("/"):
        return None, []
    folders = [after for word, after in zip(arguments, arguments[1:]) if word == "-L"]
    return target, folders + [word[2:] for word in arguments if word.startswith("-L") and len(word) > 2]


def _after_keywords(words: list[str]) -> tuple[list[str], bool]:
    """The words of a command without the shell's keywords before it, and whether there were any (or a function)."""
    rest, flow = list(words), False
    while rest and (rest[0] in _FLOW or rest[0] in ("{", "}", "!")):
        flow = flow or rest[0] in _FLOW
        rest.pop(0)
    return rest, flow


def _command(words: list[str]) -> tuple[int, str, list[str]] | None:
    """``(rank, command word, its arguments)`` of a command that could be the one that the wrapper is for; the higher the rank, the surer."""
    executed = False
    rest = list(words)
    while rest:
        name = os.path.basename(rest[0])
        if name in _RUNNERS:
            executed = executed or name == "exec"
            options, own = _RUNNERS[name]
        elif _LOADER.match(name):
            options, own = _LOADER_OPTIONS, 0
        else:
            break
        rest = _without_options(rest[1:], options)
        rest = rest[own:]
        if name == "env":
            while rest and _ASSIGNMENT.match(rest[0]):
                rest.pop(0)
    if not rest:
        return None
    handed_on = any(_ALL_ARGUMENTS.search(word) for word in rest[1:])
    if executed:
        return 3, rest[0], rest[1:]
    if handed_on and "qemu" in os.path.basename(rest[0]):
        return 2, rest[0], rest[1:]
    return (1, rest[0], rest[1:]) if handed_on and "/" in rest[0] else None


def _without_options(words: list[str], with_value: tuple[str, ...]) -> list[str]:
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        option = rest.pop(0)
        if option == "--":
            break
        if option in with_value and rest:
            rest.pop(0)
    return rest


def _commands(text: str) -> list[list[str]]:
    """The words of each simple command, without redirections; what shlex cannot split is left out. A function's head comes as the keyword ``function``."""
    found: list[list[str]] = []
    for line in text.replace("\\\n", " ").splitlines()[1:]:
        lexer = shlex.shlex(line[: 16 * _LONGEST], posix=True, punctuation_chars=";&|()<>")
        lexer.whitespace_split = True
        lexer.commenters = "#"
        try:
            tokens = list(lexer)
        except ValueError:
            continue
        words: list[str] = []
        skip = False  # the word that a redirection leads to
        array = False  # between the brackets of NAME=( ... )
        for token in tokens:
            if token and set(token) <= set(";&|()<>"):
                if "<" in token or ">" in token:
                    if words and words[-1].isdigit():
                        words.pop()  # the descriptor
                    skip = True
                elif token.startswith("(") and words and words[-1].endswith("="):
                    array = not token.endswith(")")
                elif token.startswith("()") and len(words) == 1:
                    found.append(["function"])
                    words = []
                elif not array:
                    found.append(words)
                    words = []
                array = array and not token.startswith(")")
                continue
            if skip:
                skip = False
            elif not array:
                words.append(token)
        found.append(words)
    return [words for words in found if words]


def _expand(word: str, variables: dict[str, str]) -> str:
    """Replace the variables that are known; others stay as they are written."""
    return _VARIABLE.sub(lambda match: variables.get(match.group(1) or match.group(2), match.group(0)), word[:_LONGEST])[:_LONGEST]

# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a report's files on the controller, and asks the report questions. PRIVATE to kataops.aio."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.plugin_utils._report.html import render_html
from ansible_collections.kataops.aio.plugins.plugin_utils._report.machine import render_csv, render_json, render_junit, render_prometheus
from ansible_collections.kataops.aio.plugins.plugin_utils._report.terminal import render_markdown

# Format → file name's end, renderer. node_exporter reads *.prom, CI systems *.xml.
FORMATS = {
    "json": (".json", render_json),
    "html": (".html", render_html),
    "markdown": (".md", render_markdown),
    "csv": (".csv", render_csv),
    "junit": (".xml", render_junit),
    "prometheus": (".prom", render_prometheus),
}


@contextlib.contextmanager
def writing(folder):
    """Gives the folder as an absolute path, made where it is missing; whatever of it cannot be written is one clear error.

    :raises AioError: for any OSError in the block.
    """
    base = pathlib.Path(os.path.abspath(os.path.expanduser(folder)))
    try:
        base.mkdir(parents=True, exist_ok=True)
        yield base
    except OSError as exc:
        raise AioError(
            "the report could not be written: %s" % (exc.strerror or exc),
            where=str(exc.filename or base),
            expected="a folder on the controller in which this user may write",
            remedy="name another folder with kata_aio_report_dir",
        ) from exc


def write_report(report, folder, name, formats):
    """Write the report in each format: ``{format: absolute path}``. A reader sees the old file or the new one, never a part.

    Beside them ``<name>.limit`` has the failing hosts, one a line, for ``--limit @file``; it is taken away where none fails.

    :raises AioError: when the folder cannot be made or a file cannot be written.
    """
    with writing(folder) as base:
        paths = {}
        for form in formats:
            end, render = FORMATS[form]
            paths[form] = str(base / (name + end))
            replace_text(base / (name + end), render(report))
        limit = base / (name + ".limit")
        if report["failing"]["hosts"]:
            replace_text(limit, "".join(item["host"] + "\n" for item in report["failing"]["hosts"]))
            paths["limit"] = str(limit)
        else:
            limit.unlink(missing_ok=True)
        return paths


def write_answer(folder, name, query, answer):
    """Write the answer to the user's query as ``<name>.query.json``: ``{query: absolute path}``. Without a query that of an earlier run is taken away.

    :raises AioError: when the file cannot be written.
    """
    with writing(folder) as base:
        path = base / (name + ".query.json")
        if not query:
            path.unlink(missing_ok=True)
            return {}
        replace_text(path, json.dumps({"query": query, "answer": answer}, indent=2) + "\n")
        return {"query": str(path)}


def replace_text(path, text):
    """Put a text file in place by one rename. Its mode follows the umask; on any error the temporary file is taken away."""
    # No known suffix: collectors that look for *.prom or *.xml must not see the unfinished file.
    temporary = path.with_name(".%s.%d.new" % (path.name, os.getpid()))
    try:
        with open(temporary, "x", encoding="utf-8", newline="") as file:
            file.write(text)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def query_report(report, expression):
    """The answer of a JMESPath expression over the report.

    :raises AioError: when jmespath is not installed for the Python that runs Ansible, or the expression is wrong.
    """
    try:
        import jmespath
        import jmespath.exceptions
    except ImportError as exc:
        raise AioError(
            "the query needs the Python library jmespath", where="kata_aio_query", remedy="install jmespath for the Python that runs Ansible"
        ) from exc
    try:
        return jmespath.search(expression, report)
    except jmespath.exceptions.JMESPathError as exc:
        message = " ".join(str(exc).split())
        raise AioError(message, where="kata_aio_query", expected="a JMESPath expression such as hosts[?verdict=='broken'].host") from exc

"""A report as one HTML file: no server, no network, no library."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from visionkit.errors import UsageError
from visionkit.formats.json_file import write_json


def write_report(file: Path, content: Mapping[str, Any]) -> None:
    """Write the page that shows a content, as `visionkit.report.content` or `map_content` makes it.

    Raises:
        UsageError: the file exists.
        DataError: it cannot be written.
    """
    check_report(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, page(content))


def check_report(file: Path) -> None:
    """Raises UsageError where a report cannot be written: nothing is overwritten."""
    if file.exists():
        raise UsageError(f"{file} exists and nothing is overwritten; give another --report")
    if file.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"a report is an HTML file, got {file.name}; name it {file.stem}.html")


SCRIPTS = {"detections": ("page.js", "detections.js"), "maps": ("page.js", "maps.js")}
"""By the kind of content, the scripts that draw it, one behind the other."""


def page(content: Mapping[str, Any]) -> str:
    """The HTML text."""
    parts = resources.files("visionkit.report")

    def read(name: str) -> str:
        return parts.joinpath(name).read_text(encoding="utf-8")

    # "<" as an escape: no name in the data can close the element it stands in.
    data = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    script = "\n".join(map(read, SCRIPTS[content["kind"]]))
    text = read("page.html").replace("/*STYLE*/", read("page.css")).replace("/*SCRIPT*/", script)
    return text.replace("/*DATA*/", data)

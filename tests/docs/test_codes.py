"""The page of codes says what the code says."""

import re
from pathlib import Path

import pytest

from visionkit import errors
from visionkit.diagnosis.codes import CODES

PAGE = Path(__file__).parents[2] / "docs" / "codes.md"


def rows(first_cell: str) -> list[list[str]]:
    """The cells of the table rows whose first cell matches."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").split("\n") if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if re.fullmatch(first_cell, row[0])]


def test_every_finding_of_the_doctor_is_told_as_it_is() -> None:
    expected = [[name, code.severity, code.title, code.why, code.fix] for name, code in CODES.items()]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in expected)
    assert rows(r"VK\d{3}") == expected, f"docs/codes.md should have these rows:\n{lines}"


def test_every_error_is_told_with_its_exit_code() -> None:
    told = {row[0].strip("`"): int(row[-1]) for row in rows(r"`\w+Error`")}
    defined = {name: kind for name, kind in vars(errors).items() if name.endswith("Error")}
    assert told == {name: kind.exit_code for name, kind in defined.items()}


def test_every_refusal_of_the_server_is_told() -> None:
    pytest.importorskip("starlette", reason="refusals are told by the server (extra serve)")
    from visionkit.serve.refusals import CODES as REFUSALS

    expected = [[f"`{name}`", str(status), words] for name, (status, words) in REFUSALS.items()]
    told = [row for row in rows(r"`[a-z_]+`") if row[1].isdigit()]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in expected)
    assert told == expected, f"docs/codes.md should have these rows:\n{lines}"

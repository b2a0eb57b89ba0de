"""The page of the architecture names the rooms there are, in the order in which they import each other."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
RUNS_AS_A_MODULE = "__main__"
IMPORT_NOTHING = {"counted", "version"}
"""No contract says what these must not import."""


def told() -> dict[str, tuple[int, str]]:
    """Of each room its row in the table, and whether it imports torch: `yes`, `no`, or empty for when it must."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.partition("| room | question")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.split("\n")[2:]]
    return {room: (place, row[-1]) for place, row in enumerate(rows) for room in re.findall(r"`(\w+)`", row[0])}


def test_every_room_is_told_above_those_that_it_may_import() -> None:
    layers = next(contract["layers"] for contract in CONTRACTS if contract["type"] == "layers")
    depth = {room: place for place, layer in enumerate(layers) for room in layer.split(" | ")}
    del depth[RUNS_AS_A_MODULE]
    assert set(told()) == set(depth)
    for room, (row, _) in told().items():
        for other, (other_row, _) in told().items():
            assert row >= other_row or depth[room] <= depth[other], f"{room} stands above {other}"


def test_rooms_without_torch_are_told() -> None:
    forbidden = next(contract["source_modules"] for contract in CONTRACTS if contract["type"] == "forbidden")
    without = {module.removeprefix("visionkit.") for module in forbidden}
    said = {room for room, (_, torch) in told().items() if torch == "no"}
    assert said - IMPORT_NOTHING == without & set(told())

"""What `--why` prints for people: tables no wider than 100 columns, the best first, and what they leave out."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from visionkit.predict.why_words import (
    FATE_WORDS,
    STEP_WORDS,
    assigned_words,
    decimals,
    outcome_words,
    source_words,
    view_words,
)

WIDTH = 100
MOST_ROWS = {"kept": 20, "suppressed": 12}
"""Of one fate; others have `FEW_ROWS`."""

FEW_ROWS = 5
MOST_OBJECTS = 20
LONGEST_NAME = 12

LEGEND: Mapping[str, str] = {
    "logit": "logit, by which the class got its score",
    "margin": "margin of the class's SVM, by which it got its score",
    "object": "object and class p, whose product is the score",
    "proposal": "proposal by number, obj. its objectness, map the stride it was read at",
    "cell": "cell as column,row of the map of that stride",
    "anchor": "anchor by the root of its area in network pixels x height / width",
}
"""By the heading of a column."""


def why_table(why: Mapping[str, Any]) -> str:
    """What a detector kept, and what not and why: a table for each fate."""
    lines: list[str] = []
    candidates: Sequence[Mapping[str, Any]] = why["candidates"]
    told_sources = [source_columns(one["from"]) for one in candidates]
    for fate, words in FATE_WORDS.items():
        count = why["counts"].get(fate, 0)
        if not count:
            continue
        lines.append(f"why: {count:,} {_heading(fate, words, why['settings'])}")
        places = [place for place, one in enumerate(candidates) if one["fate"] == fate]
        shown = places[: MOST_ROWS.get(fate, FEW_ROWS)]
        rows = [_row(place, candidates[place], told_sources[place]) for place in shown]
        lines += aligned(rows)
        more = count - len(shown)
        if more:
            best = f"the best {len(places):,}" if places else "none"
            where = f"--json has {'all' if len(places) == count else best}"
            lines.append(f"  and {more:,} more; {where}" if shown else f"  {where}")
    return "\n".join(lines)


def why_legend(why: Mapping[str, Any]) -> str:
    """What the columns of its tables mean, those that there are; empty where there is no row."""
    candidates: Sequence[Mapping[str, Any]] = why["candidates"]
    columns = source_columns(candidates[0]["from"]) if candidates else {}
    words = "; ".join(meaning for name, meaning in LEGEND.items() if name in columns)
    return textwrap.fill(words, WIDTH, subsequent_indent="  ")


def _heading(fate: str, words: str, settings: Mapping[str, float]) -> str:
    limits = {
        "suppressed": f", each by a better one of its class at IoU > {settings['iou']:g}",
        "below_conf": f", below {settings['conf']:g}",
        "beyond_max_det": f", {settings['max_det']:,}",
        "beyond_candidates": f", {settings['candidates']:,}, that enter suppression",
    }
    return words + limits.get(fate, "")


def _row(place: int, candidate: Mapping[str, Any], source: Mapping[str, str]) -> dict[str, str]:
    """The cells of a candidate's row by their headings."""
    corners = " ".join(f"{corner:.0f}" for corner in candidate["bbox"])
    row = {"#": str(place), "class": _short(candidate["name"], LONGEST_NAME)}
    row |= {name: source[name] for name in ("logit", "margin", "object", "class p") if name in source}
    row |= {"score": decimals(candidate["score"], 3), "box": corners}
    if "by" in candidate:
        row |= {"by": f"#{candidate['by']}", "IoU": decimals(candidate["iou"], 3)}
    return row | {name: cell for name, cell in source.items() if name not in row}


def source_columns(source: Mapping[str, Any]) -> dict[str, str]:
    """Where a candidate came from and what its score was made of, cells by their headings.

    >>> source_columns({"stride": 16, "cell": [12, 7], "logit": 1.234})
    {'logit': '1.23', 'stride': '16', 'cell': '12,7'}
    """
    cells = {name: decimals(source[name]) for name in ("logit", "margin") if name in source}
    if "confidence" in source:
        cells |= {"object": decimals(source["confidence"]), "class p": decimals(source["class_probability"])}
    if "proposal_number" in source:
        cells["proposal"] = str(source["proposal_number"])
        if "objectness" in source:
            cells["obj."] = decimals(source["objectness"])
        cells["map"] = str(source["read_stride"])
    if "cell" in source:
        column, row = source["cell"]
        cells |= {"stride": str(source["stride"]), "cell": f"{column},{row}"}
    if "box_of_cell" in source:
        cells["cell"] += f" box {source['box_of_cell'] + 1}"
    if "anchor_size" in source:
        cells["anchor"] = f"{source['anchor_size']:.0f} x {source['anchor_ratio']:.2g}"
    return cells


TEXT_COLUMNS = ("class", "box", "cell", "anchor")


def aligned(rows: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """A line of headings and one a row, in columns."""
    if not rows:
        return
    headings = list(rows[0])
    widths = {name: max(len(name), *(len(row.get(name, "")) for row in rows)) for name in headings}
    for row in ({name: name for name in headings}, *rows):
        cells = (
            f"{row.get(name, ''):<{width}}" if name in TEXT_COLUMNS else f"{row.get(name, ''):>{width}}"
            for name, width in widths.items()
        )
        yield ("  " + " ".join(cells)).rstrip()[:WIDTH]


def objects_table(document: Mapping[str, Any]) -> str:
    """What became of each annotated object of an image, those that were lost first, of these the largest."""
    image, settings = document["image"], document["why"]["settings"]
    objects = list(enumerate(document["objects"], start=1))
    count = sum(not row["ignored"] for _, row in objects)
    steps = ", ".join(
        f"{document['steps'][step]:,} {words}" for step, words in STEP_WORDS.items() if document["steps"].get(step)
    )
    head = f"{image['path']}  {image['width']}x{image['height']}  {count:,} object{'s' * (count != 1)}"
    lines = [f"{head}: {steps}" if steps else head]
    lines.append(
        f"found: a detection of its class, score at least {settings['conf']:g}, overlaps it by IoU at least 0.5"
    )
    objects.sort(key=lambda pair: (pair[1]["ignored"], pair[1].get("step") == "found", -_area(pair[1]["bbox"])))
    for number, row in islice(objects, MOST_OBJECTS):
        corners = " ".join(f"{corner:.0f}" for corner in row["bbox"])
        lines.append(f"{number:>4} {_short(row['name'], 30)}  {corners}: {outcome_words(row)[0]}")
        further = [view_words(row["view"], document["image"])] if "view" in row else []
        further += [assigned_words(stage) for stage in row["assigned"]]
        source = source_words(row.get("from", {}))
        further += [f"from {source}"] if source else []
        for words in further:
            lines += textwrap.wrap(words, WIDTH, initial_indent=" " * 7, subsequent_indent=" " * 9)
    if len(objects) > MOST_OBJECTS:
        lines.append(f"     and {len(objects) - MOST_OBJECTS:,} more; --json has all")
    return "\n".join(lines)


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _short(name: str, length: int) -> str:
    name = " ".join(name.split())
    return name if len(name) <= length else name[: length - 1] + "…"

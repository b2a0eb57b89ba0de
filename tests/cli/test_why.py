"""The tables of `--why`: what they show, what they leave out, and that they fit."""

from __future__ import annotations

from typing import Any

from visionkit.predict.why_tables import FEW_ROWS, MOST_OBJECTS, MOST_ROWS, WIDTH, objects_table, why_legend, why_table

TWO_STAGE = {
    "proposal": [1123.4, 1123.4, 1999.9, 1999.9],
    "proposal_number": 1000,
    "objectness": 0.987,
    "objectness_logit": 4.33,
    "read_stride": 32,
    "background": 0.02,
    "stride": 64,
    "cell": [19, 12],
    "anchor": [-100.0, -100, 900, 900],
    "anchor_size": 512.0,
    "anchor_ratio": 0.5,
    "logit": -10.25,
}


def candidate(fate: str = "kept", **others: Any) -> dict[str, Any]:
    return {
        "bbox": [1123.4, 1123.4, 1999.9, 1999.9],
        "score": 0.9,
        "label": 0,
        "category_id": 1,
        "name": "a class with quite a long name",
        "fate": fate,
        "from": TWO_STAGE,
        **others,
    }


def why_of(candidates: list[dict[str, Any]], **counts: int) -> dict[str, Any]:
    fates = ("kept", "beyond_max_det", "suppressed", "in_padding", "beyond_candidates", "too_small", "below_conf")
    settings = {"conf": 0.25, "iou": 0.5, "max_det": 100, "candidates": 3000}
    return {"settings": settings, "counts": dict.fromkeys(fates, 0) | counts, "candidates": candidates}


def test_the_widest_rows_fit_and_name_their_columns() -> None:
    table = why_table(why_of([candidate(), candidate("suppressed", by=0, iou=0.834)], kept=1, suppressed=1))
    head, columns, kept, gone_head, _, gone = table.splitlines()
    assert head == "why: 1 kept"
    assert columns.split() == [
        "#",
        "class",
        "logit",
        "score",
        "box",
        "proposal",
        "obj.",
        "map",
        "stride",
        "cell",
        "anchor",
    ]
    assert kept.split()[:1] == ["0"]
    assert gone_head == "why: 1 suppressed, each by a better one of its class at IoU > 0.5"
    assert "#0" in gone
    assert "0.83" in gone
    assert all(len(line) <= WIDTH for line in table.splitlines())
    assert gone.endswith("512 x 0.5")  # nothing was cut off


def test_what_is_left_out_is_counted() -> None:
    many = MOST_ROWS["suppressed"] + 1234
    lines = why_table(
        why_of([candidate(), *[candidate("suppressed", by=0, iou=0.8)] * many], kept=1, suppressed=many)
    ).splitlines()
    assert lines[-1] == "  and 1,234 more; --json has all"
    assert len(lines) == 3 + 2 + MOST_ROWS["suppressed"] + 1


def test_what_json_does_not_have_either_is_said() -> None:
    lines = why_table(why_of([candidate("below_conf")] * 300, below_conf=671_933)).splitlines()
    assert lines[0] == "why: 671,933 scored too low, below 0.25"
    assert lines[-1] == f"  and {671_933 - FEW_ROWS:,} more; --json has the best 300"
    assert why_table(why_of([], below_conf=5)).splitlines() == [
        "why: 5 scored too low, below 0.25",
        "  --json has none",
    ]


def test_nothing_at_all() -> None:
    assert why_table(why_of([])) == ""


def row(step: str = "found", side: float = 10, **others: Any) -> dict[str, Any]:
    place = {"iou": 0.71, "stride": 8, "cell": [4, 5], "anchor_size": 64.0, "anchor_ratio": 0.5}
    stage = {"what": "anchors", "best_iou": 0.71, "best_iou_of": "anchors", "positives": {"8": 3}, "places": [place]}
    return {
        "id": 1,
        "bbox": [0, 0, side, side],
        "category_id": 1,
        "name": "car",
        "ignored": False,
        "assigned": [stage],
        "step": step,
        "iou": 0.8,
        "score": 0.9,
        **others,
    }


def document(*objects: dict[str, Any]) -> dict[str, Any]:
    steps: dict[str, int] = {}
    for one in objects:
        if not one["ignored"]:
            steps[one["step"]] = steps.get(one["step"], 0) + 1
    image = {"id": 1, "path": "photo.jpg", "width": 640, "height": 480}
    return {"image": image, "steps": steps, "objects": list(objects), "why": why_of([])}


def test_lost_objects_come_first_and_of_these_the_largest() -> None:
    crowd = {**row(side=90), "ignored": True}
    lines = objects_table(document(row(side=50), row("scored_low", 10), crowd, row("scored_low", 20))).splitlines()
    assert lines[0] == "photo.jpg  640x480  3 objects: 1 found, 2 scored low"
    numbers = [int(line.split()[0]) for line in lines[2:] if line[:4].strip().isdigit()]
    assert numbers == [4, 2, 1, 3]
    assert lines[2] == "   4 car  0 0 20 20: scored low, 0.90 at IoU 0.80"
    assert lines[3:5] == [
        "       3 anchors learn it (stride 8: 3), the nearest: stride 8, cell 4,5, anchor of 64 px and ratio",
        "         0.5; best IoU of anchors 0.71",
    ]


def test_of_many_objects_the_rest_is_counted() -> None:
    lines = objects_table(document(*[row()] * (MOST_OBJECTS + 1234))).splitlines()
    assert lines[-1] == "     and 1,234 more; --json has all"


def test_an_image_without_objects() -> None:
    assert objects_table(document()).splitlines()[0] == "photo.jpg  640x480  0 objects"


def test_long_words_are_wrapped() -> None:
    stage = {
        "what": "anchors",
        "best_iou": 0.7,
        "best_iou_of": "anchors",
        "positives": {str(2**k): 100 for k in range(3, 12)},
        "places": [TWO_STAGE],
    }
    lines = objects_table(document(row(assigned=[stage, stage], **{"from": TWO_STAGE}))).splitlines()
    assert max(map(len, lines)) <= WIDTH


def test_the_legend_has_the_columns_there_are() -> None:
    assert why_legend(why_of([])) == ""
    words = why_legend(why_of([{**candidate(), "from": {"stride": 8, "cell": [1, 2], "logit": 0.3}}]))
    assert words.startswith("logit, ")
    assert "cell as column,row" in words
    assert "proposal" not in words
    assert max(map(len, why_legend(why_of([candidate()])).splitlines())) <= WIDTH

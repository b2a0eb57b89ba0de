"""Label errors planted on purpose: what becomes of the labels, which suspicions name them, and a run of the tool."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coco_referee import truth_with
from reference_data import reference_data
from tiny import TinyRun

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "plant_label_errors"))

from planting import KINDS, Planted, plant, ranks

from visionkit.diagnosis.findings import Finding
from visionkit.diagnosis.geometry import overlap
from visionkit.diagnosis.suspicion import find_suspicious
from visionkit.errors import UsageError
from visionkit.formats.coco import read_coco

TOOL = Path(__file__).parents[2] / "tools" / "plant_label_errors"


def sound(count: int = 30) -> dict[str, Any]:
    boxes = [{"bbox": [100, 100, 40, 30], "image_id": number} for number in range(1, count + 1)]
    return truth_with(*boxes, {"bbox": [0, 0, 50, 50], "iscrowd": 1}, images=count, categories=((1, "a"), (5, "b")))


def test_errors_of_each_kind_are_planted_in_turn() -> None:
    coco = sound()
    before = json.dumps(coco)
    damaged, planted = plant(coco, 9, seed=3)
    assert json.dumps(coco) == before
    assert [error.kind for error in planted] == [*KINDS] * 3
    rows = {row["id"]: row for row in damaged["annotations"]}
    for error in planted:
        if error.kind == "missing":
            assert error.annotation_id not in rows
        elif error.kind == "other class":
            assert rows[error.annotation_id]["category_id"] == 5
        else:
            x, y, width, height = rows[error.annotation_id]["bbox"]
            assert (width, height) == (40, 30)
            # 0.6 * 0.6 of the area is left in common at most: 0.36 / (2 - 0.36).
            assert overlap((x, y, width, height), error.box) <= 0.36 / 1.64 + 1e-9
            assert 0 <= x <= 640 - width
            assert 0 <= y <= 480 - height
    touched = {error.annotation_id for error in planted}
    assert [row for row in damaged["annotations"] if row["id"] not in touched] == [
        row for row in coco["annotations"] if row["id"] not in touched
    ]
    assert len(touched) == 9
    assert plant(coco, 9, seed=3) == (damaged, planted)
    assert plant(coco, 9, seed=4)[1] != planted
    with pytest.raises(UsageError, match=r"^the split has 30 objects, 31 errors need one each; lower --count$"):
        plant(coco, 31)
    with pytest.raises(UsageError, match=r"^the data has one category, a label of another class needs two or more"):
        plant({**coco, "categories": coco["categories"][:1]}, 1)


def finding(code: str, image_id: int, annotation_id: int | None = None, box: Any = None) -> Finding:
    return Finding(code, Path("a.json"), "", "", image_id=image_id, annotation_id=annotation_id, box=box)


def test_who_names_an_error() -> None:
    box = (100.0, 100.0, 40.0, 30.0)
    planted = [Planted(kind, number, number, box) for number, kind in enumerate(KINDS, start=1)]
    findings = [
        finding("VK602", 9, 9),
        finding("VK603", 1, 1, box),  # the first, by its label
        finding("VK601", 2, box=(102, 100, 40, 30)),  # the second, where it is
        finding("VK601", 3, box=(300, 100, 40, 30)),  # the third is elsewhere
    ]
    assert ranks(planted, findings) == [2, 3, None]
    assert ranks(planted, [*findings, finding("VK604", 3, 3, box)]) == [2, 3, 5]
    assert ranks(planted, [finding("VK601", 3, box=box)]) == [None, None, 1]


def run(*arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TOOL), *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_the_tool_on_tiny_data(tiny_data: Path, tiny_run: TinyRun, tmp_path: Path) -> None:
    options = ("--data", tiny_data, "--split", "train", "--count", 6, "--seeds", "0,1")
    done = run(*options, "--weights", tiny_run.result.best, "--json")
    assert done.returncode == 0, done.stderr
    turns = json.loads(done.stdout)
    assert [turn["seed"] for turn in turns] == [0, 1]
    for turn in turns:
        assert sum(found for found, _ in turn["kinds"].values()) == turn["found"] > 0
        assert {total for _, total in turn["kinds"].values()} == {2}
    done = run(*options, "--write", tmp_path / "damaged")
    out = tmp_path / "damaged"
    first, learn, ask = done.stdout.splitlines()
    assert first == f"{out / 'dataset.yaml'}: 6 errors in train"
    assert learn == f"visionkit finetune --data {out / 'dataset.yaml'} --out {out / 'run'}"
    # The same errors are planted again, to be looked for.
    words = f"--data {tiny_data} --split train --count 6 --seeds 0 --weights {out / 'run/best.safetensors'}"
    assert ask == f"python tools/plant_label_errors {words}"
    train = json.loads((tmp_path / "damaged/train.json").read_text())
    whole = json.loads((tiny_data / "annotations/train.json").read_text())
    assert len(train["annotations"]) == len(whole["annotations"]) - 2


def test_what_the_tool_refuses_in_one_line(tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("plant_label_errors", TOOL / "__main__.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    for arguments, code, words in (
        (("--split", "none"), 1, f"{tiny_data} has no split none in COCO layout; name another"),
        (("--write", str(tmp_path)), 2, f"{tmp_path} exists and nothing is overwritten; give another --write"),
        (
            ("--write", str(tmp_path / "new"), "--count", "99"),
            2,
            "the split has 5 objects, 99 errors need one each; lower",
        ),
    ):
        assert tool.main(["--data", str(tiny_data), *arguments]) == code
        assert capsys.readouterr().err.startswith(f"error: {words}")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("seed", range(3))
def test_a_detector_that_is_often_right_finds_most_errors_in_blood_cells(seed: int, tmp_path: Path) -> None:
    """A made-up detector that finds 19 of 20 cells a little beside their labels, and one in ten that is none."""

    coco = json.loads((reference_data("blood-cells") / "annotations/val.json").read_text())
    random = np.random.default_rng(seed)
    rows = []
    for row in coco["annotations"]:
        about = {"image_id": row["image_id"], "category_id": row["category_id"]}
        moved = np.array(row["bbox"]) + random.normal(0, 0.05, 4) * np.tile(row["bbox"][2:], 2)
        if random.random() < 0.95:
            rows.append({**about, "bbox": moved.tolist(), "score": float(random.uniform(0.5, 1))})
        if random.random() < 0.1:
            box = [*random.uniform(0, 400, 2).tolist(), 60.0, 60.0]
            rows.append({**about, "bbox": box, "score": float(random.uniform(0, 0.5))})
    damaged, planted = plant(coco, 20, seed)
    file = tmp_path / "damaged.json"
    file.write_text(json.dumps(damaged))
    findings = find_suspicious(read_coco(file), rows)
    found = [place for place in ranks(planted, findings[:40]) if place is not None]
    assert len(found) >= 14

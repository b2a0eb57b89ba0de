"""How many of the label errors planted in a dataset are among the suspicions of `visionkit doctor --weights`.

`.venv/bin/python tools/plant_label_errors --data DIR --weights FILE` plants in val, whose images the model has not
learnt from. With `--split train --write OUT` it writes a dataset whose train is damaged instead, and says the commands
that train a model on it and then ask that model, which has learnt the very errors it is asked about.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from planting import KINDS, plant, ranks

from visionkit.api.doctor import SUSPICIOUS_SHOWN
from visionkit.api.evaluate import evaluate
from visionkit.diagnosis.suspicion import find_suspicious
from visionkit.errors import UsageError, VisionkitError
from visionkit.formats.coco import read_coco
from visionkit.formats.coco_layouts import CocoSplit
from visionkit.formats.coco_results import read_results
from visionkit.formats.layout import find_layout


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="tools/plant_label_errors", description=__doc__)
    top.add_argument("--data", type=Path, required=True, help="COCO dataset, whose labels are taken for sound")
    top.add_argument("--split", default="val", help="where errors are planted (%(default)s)")
    top.add_argument("--count", type=int, default=20, help="of errors (%(default)s)")
    top.add_argument("--seeds", default="0", help="of the errors, a turn each (%(default)s)")
    top.add_argument("--shown", type=int, default=SUSPICIOUS_SHOWN, help="suspicions looked at (%(default)s)")
    top.add_argument("--weights", help="the model that has its doubts")
    top.add_argument("--predictions", type=Path, help="or what it says of the split, a COCO results file")
    top.add_argument("--write", type=Path, help="write the damaged dataset of the first seed here, and ask nobody yet")
    top.add_argument("--json", action="store_true", help="print JSON instead of words")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    try:
        print(write(given) if given.write else measure(given))
    except VisionkitError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def measure(given: argparse.Namespace) -> str:
    split = coco_split(given)
    coco = json.loads(split.annotations.read_text())
    with tempfile.TemporaryDirectory() as folder:
        predictions = given.predictions
        if predictions is None:
            predictions = Path(folder) / "predictions.json"
            evaluate(given.weights or "default", given.data, split=given.split, save_predictions=predictions)
        rows = read_results(predictions, read_coco(split.annotations))
        turns = [turn(coco, rows, Path(folder), given, int(seed)) for seed in given.seeds.split(",")]
    if given.json:
        return json.dumps(turns)
    lines = [
        f"seed {said['seed']}: {said['found']} of {given.count} in the first {given.shown} suspicions"
        f" ({', '.join(f'{kind} {found} of {total}' for kind, (found, total) in said['kinds'].items())})"
        for said in turns
    ]
    average = mean(said["found"] for said in turns)
    return "\n".join([*lines, f"mean of {len(turns)}: {average:.1f} of {given.count}"])


def turn(
    coco: dict[str, Any], rows: list[dict[str, Any]], folder: Path, given: argparse.Namespace, seed: int
) -> dict[str, Any]:
    """The errors of one seed: how many there are of each kind and how many are in the list."""
    damaged, planted = plant(coco, given.count, seed)
    file = folder / f"{seed}.json"
    file.write_text(json.dumps(damaged))
    findings = find_suspicious(read_coco(file), rows)
    places = ranks(planted, findings[: given.shown])
    totals = Counter(error.kind for error in planted)
    found = Counter(error.kind for error, place in zip(planted, places, strict=True) if place is not None)
    return {
        "seed": seed,
        "found": sum(found.values()),
        "kinds": {kind: [found[kind], totals[kind]] for kind in KINDS},
        "ranks": ranks(planted, findings),
        "suspicions": len(findings),
        "shown": Counter(finding.code for finding in findings[: given.shown]),
    }


def write(given: argparse.Namespace) -> str:
    split, out, seed = coco_split(given), given.write, int(given.seeds.split(",")[0])
    if out.exists():
        raise UsageError(f"{out} exists and nothing is overwritten; give another --write")
    damaged, planted = plant(json.loads(split.annotations.read_text()), given.count, seed)
    out.mkdir(parents=True)
    described = {}
    for name, files in find_layout(given.data).splits.items():
        if isinstance(files, CocoSplit):
            file = out / f"{name}.json"
            file.write_text(json.dumps(damaged) if name == given.split else files.annotations.read_text())
            described[name] = {"images": str(files.images.resolve()), "annotations": file.name}
    (out / "dataset.yaml").write_text(json.dumps(described, indent=1) + "\n")
    asked = f"--data {given.data} --split {given.split} --count {given.count} --seeds {seed}"
    return "\n".join(
        [
            f"{out / 'dataset.yaml'}: {len(planted)} errors in {given.split}",
            f"visionkit finetune --data {out / 'dataset.yaml'} --out {out / 'run'}",
            f"python tools/plant_label_errors {asked} --weights {out / 'run' / 'best.safetensors'}",
        ]
    )


def coco_split(given: argparse.Namespace) -> CocoSplit:
    split = find_layout(given.data).splits.get(given.split)
    if not isinstance(split, CocoSplit):
        raise VisionkitError(f"{given.data} has no split {given.split} in COCO layout; name another")
    return split


if __name__ == "__main__":
    sys.exit(main())

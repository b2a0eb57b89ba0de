"""Which of two models, or of two files of predictions, is better on the same images."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from visionkit.api.datasets import find_dataset, say_split
from visionkit.api.evaluate import evaluate
from visionkit.api.judged import open_judged, task_of_judged
from visionkit.api.task_data import is_fitted, wants_proposals
from visionkit.config import Recipe
from visionkit.engine.events import Listener
from visionkit.engine.run_folder import RunFolder
from visionkit.errors import UsageError
from visionkit.formats.coco import read_coco
from visionkit.formats.coco_results import read_results
from visionkit.formats.layout import read_split
from visionkit.formats.records import AnnotatedImages
from visionkit.formats.yaml_file import read_yaml
from visionkit.metrics.coco_columns import Task, check_task
from visionkit.metrics.comparison import Comparison, compare_detections
from visionkit.predict.tiling import chosen_tiling


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two: a weights file with the data its run was trained on, or a file of predictions.

    Args:
        proposals: the folder of them that its run was trained on.
        recipe: of a model that was opened.
    """

    path: Path
    is_predictions: bool
    data: str | None = None
    proposals: str | None = None
    recipe: Recipe | None = None

    @property
    def takes_proposals(self) -> bool:
        return self.recipe is not None and (wants_proposals(self.recipe) or is_fitted(self.recipe))

    @classmethod
    def of(cls, given: str | Path) -> _Side:
        """What a user named; nothing is opened yet."""
        path = Path(given)
        if path.suffix.lower() == ".json":
            return cls(path, is_predictions=True)
        if not path.is_dir():
            return cls(path, is_predictions=False)
        folder = RunFolder(path)
        if not folder.best.is_file():
            raise UsageError(
                f"{path} is a folder without {folder.best.name}; name a run folder that has been evaluated"
            )
        settings = read_yaml(folder.config) if folder.config.is_file() else {}
        settings = settings if isinstance(settings, dict) else {}
        data, proposals = settings.get("data") or None, settings.get("proposals") or None
        return cls(folder.best, is_predictions=False, data=data, proposals=proposals)

    def opened(self) -> _Side:
        """With the recipe of its model. Raises UsageError where that is no detector, and as `open_judged`."""
        if self.is_predictions:
            return self
        loaded = open_judged(self.path)
        if task_of_judged(loaded) != "detect":
            raise UsageError(
                f"{self.path} is no detector, a {loaded.name}, and compare judges detections; run evaluate on each"
            )
        return replace(self, recipe=loaded.recipe)


def compare(
    a: str | Path,
    b: str | Path,
    *,
    data: str | Path | None = None,
    annotations: str | Path | None = None,
    split: str = "val",
    task: Task = "bbox",
    proposals: str | Path | None = None,
    tile: int | None = None,
    overlap: float | None = None,
    device: str = "auto",
    threads: int = 0,
    listen: Listener = lambda event: None,
    say: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """How two detectors differ in AP and AP50 on the same images, and whether these images can tell.

    Args:
        a, b: each a run's folder (its best weights), a weights file, an exported graph, or a COCO results file
            (`.json`).
        data: the dataset; two run folders that were trained on the same one need not name it.
        annotations: a COCO ground truth file in its place, for two results files.
        split: of the dataset.
        task: what is compared, boxes (`bbox`) or masks (`segm`).
        proposals: a file of them on the split, or a folder with a file for each split, for a model that is fed by them;
            those that its run was trained on where None.
        tile, overlap: the tiles that both see larger images in, as for `evaluate`; each as trained where None.
        threads: CPU threads; 0 leaves torch's choice.

    Raises:
        UsageError: no ground truth is named, or two; one is no detector; the two hold out different images of a
            dataset without val; or an option is of models, and neither takes it.
        CheckpointError, DataError: a file is missing or broken, or does not fit the ground truth.
    """
    check_task(task)
    chosen_tiling(tile, overlap)
    sides = (_Side.of(a), _Side.of(b))
    if all(side.is_predictions for side in sides) and (proposals is not None or tile is not None):
        flag = "--tile" if proposals is None else "--proposals"
        raise UsageError(f"{flag} is for models, and both are results files; leave it out")
    if data is not None and annotations is not None:
        raise UsageError("compare takes the ground truth from --data or from --annotations; leave one of them out")
    if annotations is not None:
        weights = [side.path for side in sides if not side.is_predictions]
        if weights:
            raise UsageError(f"{weights[0]} is a model and needs images; name the dataset by --data DIR")
        truth = read_coco(Path(annotations))
        first, second = (read_results(side.path, truth) for side in sides)
        return compare_detections(truth, first, second, task)
    data = data if data is not None else _common_data(sides)
    sides = (sides[0].opened(), sides[1].opened())
    if proposals is not None and not any(side.takes_proposals for side in sides):
        raise UsageError("neither of the two takes proposals, both make what they need; leave out --proposals")
    for side in sides if tile is None else ():
        if side.recipe is not None and side.recipe.tile:
            say(f"{side.path} sees tiles of {side.recipe.tile} px, as trained")
    truth = _truth(sides[0], data, split, say)
    say_split(split, truth, say)
    other = _truth(sides[1], data, split, lambda line: None)
    if [image.id for image in other.images] != [image.id for image in truth.images]:
        raise UsageError(
            f"{data} has no val split, and {sides[0].path} and {sides[1].path} held out different images of train by "
            "their seeds, so each has learnt from some of the other's; compare on --split test, or give the data a val"
        )
    options = {"proposals": proposals, "tile": tile, "overlap": overlap, "device": device, "threads": threads}
    first, second = (_detections(side, truth, data, split, task, options, listen) for side in sides)
    return compare_detections(truth, first, second, task)


def _common_data(sides: tuple[_Side, _Side]) -> str:
    first, second = sides
    if first.data is None or first.data != second.data:
        named = "two results files by --annotations FILE" if first.is_predictions else "the dataset by --data DIR"
        raise UsageError(f"compare needs the ground truth; name {named}")
    return first.data


def _truth(side: _Side, data: str | Path, split: str, say: Callable[[str], None]) -> AnnotatedImages:
    """The images a side is judged on. What a dataset without val holds out depends on the seed of the run."""
    seed = 0 if side.recipe is None else side.recipe.train.seed
    return read_split(find_dataset(data, say, seed), split)


def _detections(
    side: _Side,
    truth: AnnotatedImages,
    data: str | Path,
    split: str,
    task: Task,
    options: dict[str, Any],
    listen: Listener,
) -> list[dict[str, Any]]:
    """COCO results rows; a model's pass through the same kind of file as anybody's.

    Args:
        options: of `evaluate`.
    """
    if side.is_predictions:
        return read_results(side.path, truth)
    proposals = (options["proposals"] or side.proposals) if side.takes_proposals else None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "predictions.json"
        evaluate(
            side.path,
            data,
            split=split,
            task=task,
            save_predictions=file,
            listen=listen,
            **{**options, "proposals": proposals},
        )
        return read_results(file, truth)

"""Which of two models, or of two files of predictions, is better on the same images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from visionkit.api.datasets import find_dataset, say_split
from visionkit.api.detector_rows import detector_rows
from visionkit.api.evaluate import seen_tiling
from visionkit.api.judged import Judged, open_judged, task_of_judged
from visionkit.api.task_data import given_proposals, is_fitted, says_masks, wants_proposals
from visionkit.bundled.files import DEFAULT_WEIGHTS
from visionkit.engine.events import Listener
from visionkit.engine.run_folder import RunFolder
from visionkit.errors import UsageError
from visionkit.formats.coco import read_coco
from visionkit.formats.coco_results import read_results
from visionkit.formats.folds import Fold, with_fold
from visionkit.formats.layout import read_split
from visionkit.formats.records import AnnotatedImages
from visionkit.formats.yaml_file import read_yaml
from visionkit.metrics.coco_columns import Task, check_task
from visionkit.metrics.comparison import Comparison, compare_detections
from visionkit.predict.tiling import Tiling, chosen_tiling
from visionkit.published.models import is_published


class _Deal(NamedTuple):
    """How a run dealt out the images of its data.

    Args:
        seed: of the run.
        fold: the part that is val, such as 2/5; none: the val split, or what is held out where there is none.
    """

    seed: int = 0
    fold: str = ""

    def read(self, data: str | Path, split: str, say: Callable[[str], None]) -> AnnotatedImages:
        """The images of a split of it."""
        layout = find_dataset(data, say, self.seed)
        if self.fold:
            layout = with_fold(layout, Fold.of(self.fold), self.seed)
            say(f"Fold {self.fold}: val is that part of train and val together, dealt out by seed {self.seed}")
        return read_split(layout, split)

    def __str__(self) -> str:
        return f"fold {self.fold} by seed {self.seed}" if self.fold else "no fold"


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two: a weights file with the data its run was trained on, or a file of predictions.

    Args:
        data, fold, proposals: what its run was trained on, where that is known.
        model: what was opened, and how it sees larger images.
    """

    path: Path
    is_predictions: bool
    data: str | None = None
    fold: str = ""
    proposals: str | None = None
    model: Judged | None = None
    tiling: Tiling | None = None

    @property
    def takes_proposals(self) -> bool:
        return self.model is not None and (wants_proposals(self.model.recipe) or is_fitted(self.model.recipe))

    @property
    def deal(self) -> _Deal:
        return _Deal(0 if self.model is None else self.model.recipe.train.seed, self.fold)

    def may_know(self, data: Path) -> bool:
        """Whether it may have learnt from a dataset, which is so unless its origin says otherwise: data that are not
        where a run had them may have moved.

        Args:
            data: what finds its layout.
        """
        if self.model is None or str(self.path) == DEFAULT_WEIGHTS or is_published(self.path):
            return False
        return self.data is None or not Path(self.data).exists() or Path(self.data) == data.resolve()

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
        data, fold, proposals = (settings.get(name) or None for name in ("data", "fold", "proposals"))
        return cls(folder.best, is_predictions=False, data=data, fold=str(fold or ""), proposals=proposals)

    def opened(self, task: Task, tile: int | None, overlap: float | None, **how: Any) -> _Side:
        """With its model.

        Args:
            how: of `open_judged`.

        Raises:
            UsageError: it is no detector, or none that can be judged so; and as `open_judged`.
        """
        if self.is_predictions:
            return self
        model = open_judged(self.path, model="mask-rcnn" if task == "segm" else None, **how)
        if task_of_judged(model) != "detect":
            raise UsageError(
                f"{self.path} is no detector, a {model.name}, and compare judges detections; run evaluate on each"
            )
        if task == "segm" and not says_masks(model.recipe):
            raise UsageError(
                f"{self.path} is a {model.recipe.model}, task segm compares masks of objects; use task bbox"
            )
        tiling = seen_tiling(model, tile, overlap, lambda line: None)
        return replace(self, model=model, tiling=tiling)


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
    offline: bool = False,
    listen: Listener = lambda event: None,
    say: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """How two detectors differ in AP and AP50 on the same images, and whether these images can tell.

    Val is what the runs on this data took for it: the same fold, where they had one, or the same images held out. Of a
    weights file alone no fold is known: name its run's folder.

    Args:
        a, b: each a run's folder (its best weights), a weights file, an exported graph, a published model (`coco`,
            `torchvision:NAME`), or a COCO results file (`.json`).
        data: the dataset; two run folders that were trained on the same one need not name it.
        annotations: a COCO ground truth file in its place, for two results files.
        split: of the dataset.
        task: what is compared, boxes (`bbox`) or masks (`segm`).
        proposals: a file of them on the split, or a folder with a file for each split, for a model that is fed by them;
            those that its run was trained on where None.
        tile, overlap: the tiles that both see larger images in, as for `evaluate`; each as trained where None.
        threads: CPU threads; 0 leaves torch's choice.
        offline: never use the network.

    Raises:
        UsageError: no ground truth is named, or two; one is no detector; the two learnt from different images of the
            dataset, by fold or by what was held out; or an option is of models, and neither takes it.
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
    how: dict[str, Any] = {"device": device, "threads": threads, "listen": listen}
    opening = {**how, "offline": offline, "say": say}
    sides = (sides[0].opened(task, tile, overlap, **opening), sides[1].opened(task, tile, overlap, **opening))
    if proposals is not None and not any(side.takes_proposals for side in sides):
        raise UsageError("neither of the two takes proposals, both make what they need; leave out --proposals")
    for side in sides if tile is None else ():
        if side.tiling is not None:
            say(f"{side.path} sees tiles of {side.tiling.size} px, as trained")
    truth = _truth(sides, data, split, say)
    say_split(split, truth, say)

    first, second = (_rows(side, truth, split, task, proposals, how) for side in sides)
    return compare_detections(truth, first, second, task)


def _common_data(sides: tuple[_Side, _Side]) -> str:
    first, second = sides
    if first.data is None or first.data != second.data:
        named = "two results files by --annotations FILE" if first.is_predictions else "the dataset by --data DIR"
        raise UsageError(f"compare needs the ground truth; name {named}")
    return first.data


def _truth(sides: Sequence[_Side], data: str | Path, split: str, say: Callable[[str], None]) -> AnnotatedImages:
    """The images that both are judged on, as those who may have learnt from the dataset dealt them out.

    Raises:
        UsageError: the two dealt them out differently.
    """
    place = find_dataset(data, lambda line: None).path
    models = [side for side in sides if side.model is not None]
    knowing = [side for side in models if side.may_know(place)]
    for side in models:
        if side.fold and not side.may_know(place):
            say(f"{side.path} learnt from fold {side.fold} of {side.data}, other data than {data}: it has no fold here")
    # Where no one knows the data, predictions of a model may still be of what it would have held out.
    deals = [side.deal for side in knowing] or [_Deal(side.deal.seed) for side in models[:1]] or [_Deal()]
    truth = deals[0].read(data, split, say)
    for deal in deals[1:]:
        other = deal.read(data, split, lambda line: None)
        if [image.path for image in other.images] != [image.path for image in truth.images]:
            raise UsageError(_dealt_apart(sides, deals, data))
    return truth


def _dealt_apart(sides: Sequence[_Side], deals: Sequence[_Deal], data: str | Path) -> str:
    a, b = (side.path for side in sides)
    if any(deal.fold for deal in deals):
        return (
            f"{a} goes by {deals[0]} of {data} and {b} by {deals[1]}, so each may have learnt from images that judge "
            "the other; name folders of runs of one fold and seed, or compare on --split test"
        )
    return (
        f"{data} has no val split, and {a} and {b} held out different images of train by their seeds, so each has "
        "learnt from some of the other's; compare on --split test, or give the data a val"
    )


def _rows(
    side: _Side,
    truth: AnnotatedImages,
    split: str,
    task: Task,
    proposals: str | Path | None,
    how: dict[str, Any],
) -> list[dict[str, Any]]:
    """COCO results rows of a side.

    Args:
        how: of `detector_rows`.
    """
    if side.model is None:
        return read_results(side.path, truth)
    fed = given_proposals(proposals or side.proposals, split) if side.takes_proposals else None
    return detector_rows(side.model, truth, side.tiling, masks=task == "segm", proposals=fed, **how)

"""`--guard`: what a run forgets, class by class, on data of the classes that its weights know, before and after."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from visionkit.api.as_trained import rows_as_trained
from visionkit.backbone_transfer import BackboneWeights
from visionkit.build import LoadedModel, load_model
from visionkit.classes import match_classes
from visionkit.config import Config
from visionkit.counted import counted
from visionkit.engine.checkpoint import write_atomically
from visionkit.engine.events import ImagesDone, Listener
from visionkit.errors import DataError, UsageError
from visionkit.formats.coco import read_coco
from visionkit.formats.coco_layouts import CocoSplit
from visionkit.formats.dataset_layout import Split
from visionkit.formats.held_out import with_val
from visionkit.formats.layout import find_layout
from visionkit.formats.records import AnnotatedImages
from visionkit.metrics.coco_map import coco_scores

SCHEMA = "visionkit.guard/1"
FILE = "guard.json"


@dataclass(frozen=True, slots=True)
class Guard:
    """Data of old classes, and how good the weights that a run starts from are on it.

    Args:
        path: of the data.
        truth: its images.
        sha256: of its annotations.
        before: AP of each class that the weights know, as the data writes it; None where the data has no object of it.
    """

    path: str
    truth: AnnotatedImages
    sha256: str
    before: Mapping[str, float | None]

    def to_state(self) -> dict[str, Any]:
        """What a run that goes on cannot find out again."""
        return {"sha256": self.sha256, "before": dict(self.before)}


@dataclass(frozen=True, slots=True)
class Forgetting:
    """AP of each old class, before and after a run.

    Args:
        data: where they were judged.
        images: on how many.
        classes: by name, before and after; None where the data has no object of the class, or the model does not know
            it any more.
    """

    data: str
    images: int
    classes: Mapping[str, tuple[float | None, float | None]]

    @property
    def mean(self) -> tuple[float | None, float | None]:
        """AP over the classes that the data has objects of; one that the model does not know any more counts 0."""
        judged = [(before, after or 0.0) for before, after in self.classes.values() if before is not None]
        if not judged:
            return None, None
        return sum(before for before, _ in judged) / len(judged), sum(after for _, after in judged) / len(judged)

    def lines(self) -> list[str]:
        """The same as a table."""
        width = max(len(name) for name in (*self.classes, "mean"))
        rows = [*self.classes.items(), ("mean", self.mean)]
        words = [
            f"  {name:<{width}}  {_shown(before)}  {_shown(after)}  {_difference(before, after)}".rstrip()
            for name, (before, after) in rows
        ]
        head = f"Old classes on {self.data}, {counted(self.images, 'image')}: AP before, after"
        return [head, *words]

    def to_json(self) -> dict[str, Any]:
        pairs = {name: {"before": before, "after": after} for name, (before, after) in self.classes.items()}
        mean = {"before": self.mean[0], "after": self.mean[1]}
        return {"schema": SCHEMA, "data": self.data, "images": self.images, "classes": pairs, "mean": mean}

    def write(self, folder: Path) -> None:
        """As `guard.json` of a run."""
        write_atomically(folder / FILE, (json.dumps(self.to_json(), indent=1) + "\n").encode())


def _shown(value: float | None) -> str:
    return "   n/a" if value is None else f"{value:.4f}"


def _difference(before: float | None, after: float | None) -> str:
    return "" if before is None or after is None else f"{after - before:+.4f}"


def open_guard(
    config: Config,
    source: LoadedModel | BackboneWeights | None,
    device: torch.device,
    listen: Listener = lambda event: None,
    saved: Mapping[str, Any] | None = None,
) -> Guard | None:
    """Read the data that a run's settings name as guard, and judge the weights on it before anything is learnt.

    Args:
        source: the weights that the run starts from.
        saved: what a run that goes on found then.

    Returns:
        None where none is named.

    Raises:
        UsageError: the weights are not those of a detector that knows classes of the data.
        DataError: the data is wrong, or not what it was when the run began.
    """
    if not config.guard:
        return None
    split = _guard_split(Path(config.guard), config.train.seed)
    truth, sha256 = split.read(), hashlib.sha256(b"".join(split.content())).hexdigest()
    if saved is not None:
        if saved["sha256"] != sha256:
            raise DataError(
                f"the annotations of --guard {config.guard} are not those this run began with, and its table would "
                "compare two things; restore them"
            )
        return Guard(config.guard, truth, sha256, saved["before"])
    if not isinstance(source, LoadedModel) or source.model.task != "detect":
        raise UsageError(
            "--guard judges what a detector forgets, and these weights are of none; give a detector's by --weights "
            "FILE, or leave --guard out"
        )
    before = class_aps(source, truth, config, device, listen)
    if not before:
        raise UsageError(
            f"--guard {config.guard} has no class that {source.path} knows ({', '.join(source.classes.names)}); name "
            "data that the weights were trained for"
        )
    return Guard(config.guard, truth, sha256, before)


def forgotten(
    guard: Guard, weights: Path, config: Config, device: torch.device, listen: Listener = lambda event: None
) -> Forgetting:
    """How good the weights of a run are on the data of the guard, beside how good those it started from were."""
    after = class_aps(load_model(weights), guard.truth, config, device, listen)
    classes = {name: (before, after.get(name)) for name, before in guard.before.items()}
    return Forgetting(guard.path, len(guard.truth.images), classes)


def class_aps(
    loaded: LoadedModel, truth: AnnotatedImages, config: Config, device: torch.device, listen: Listener
) -> dict[str, float | None]:
    """AP of each class of annotated images that a detector knows, by the name that the images' table has.

    At the image size, and in the tiles, that the model was trained with. It is on the CPU again afterwards.
    """
    match = match_classes(truth.classes, loaded.classes)
    known = [truth.classes.names[ours] for ours, _ in match.pairs]
    if not known:
        return {}
    done = 0

    def count(images: int) -> None:
        nonlocal done
        done += images
        listen(ImagesDone("judging old classes", done, len(truth.images)))

    half, workers = loaded.recipe.train.amp, config.workers
    rows = rows_as_trained(loaded, truth, device=device, amp=half, workers=workers, on_images=count)
    ids = {loaded.classes.category_ids[theirs]: truth.classes.category_ids[ours] for ours, theirs in match.pairs}
    rows = [{**row, "category_id": ids[row["category_id"]]} for row in rows if row["category_id"] in ids]
    scores = coco_scores(truth, rows).per_class
    return {name: scores[name].AP for name in known}


def _guard_split(path: Path, seed: int) -> Split:
    """A COCO file whose images lie beside it, or the val split of a dataset."""
    if path.suffix.lower() == ".json":
        return CocoSplit(path, _images_of(path))
    layout = with_val(find_layout(path), seed)
    if "val" not in layout.splits:
        raise DataError(f"--guard {path} has no val split, it has {', '.join(layout.splits)}; name a COCO file")
    return layout.splits["val"]


def _images_of(file: Path) -> Path:
    """The folder that the file names of a COCO file are relative to: its own, or the `images` in or beside it."""
    first = read_coco(file).images[0].file_name
    folders = (file.parent, file.parent / "images", file.parent.parent / "images")
    for folder in folders:
        if (folder / first).is_file():
            return folder
    looked = ", ".join(str(folder) for folder in folders)
    raise DataError(f"--guard {file} names image {first!r}, which is in none of {looked}; put the images there")

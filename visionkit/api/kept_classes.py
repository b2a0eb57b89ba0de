"""`--keep-classes`: a model learns the classes of new data beside those that its weights know.

The class table is that of the data and, besides, the classes that only the weights know; their rows of the head come
over with the others (`visionkit.transfer`). But the pictures of the new data may show them, and no one has labelled
them there: learnt from as it stands, such an object is background, and the model unlearns its class.

So the source model, frozen, looks at the training images once before step 1, and what it says of the classes that only
it knows stands in for the labels that are missing. That its answers on the new images are the truth of the old outputs
is Li and Hoiem 2016, Learning without Forgetting, section 3; that a frozen detector's old classes go with the labels of
the new ones, on images that have none of them, is Shmelkov et al. 2017, Incremental Learning of Object Detectors
without Catastrophic Forgetting, section 3. What differs, and why: they let the frozen network look at every step and
put its soft answers into the loss, which doubles the forward passes and needs a loss for each kind of detector. Here it
says boxes, once: what it is sure of (`SURE`) is learnt as an object, what it merely suspects (from `SUSPECTED` on) is
an ignored region, neither object nor background. Every detector learns from them as from any other, in mosaics too, and
a run that goes on has them in its state.

What that cannot do: where the training images show no old object there is nothing to see, and layers that learn move
away from the old classes all the same. Then only what is held still keeps them, and that is said.

Ids: those of the new data survive. An old class whose id the new data uses gets the next free one above all of both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from visionkit.api.as_trained import rows_as_trained
from visionkit.api.task_data import is_fitted, proposals_file, task_of
from visionkit.backbone_transfer import BackboneWeights
from visionkit.build import MODELS, LoadedModel
from visionkit.classes import ClassTable, in_brackets, match_classes
from visionkit.config import Config
from visionkit.counted import counted
from visionkit.engine.events import ImagesDone, Listener
from visionkit.errors import UsageError
from visionkit.formats.records import AnnotatedImages, Annotation
from visionkit.ops.boxes import box_iou

SURE = 0.5
"""Score from which what the source says is learnt as an object."""

SUSPECTED = 0.25
"""Score from which it is not learnt as background: what `visionkit detect` shows of a model by itself."""

SAME_OBJECT = 0.5
"""IoU from which two boxes are of one object: of two that the source says of a class the better one stays, and none
stays where someone has labelled what is there."""


@dataclass(frozen=True, slots=True)
class MergedClasses:
    """The classes of new data and those of weights in one table.

    Args:
        table: the old ones in the order of the weights, then those that only the data has. A class of both is as the
            data writes it.
        old: category id in the weights -> in the table, of the classes that only the weights know.
    """

    table: ClassTable
    old: Mapping[int, int]

    @property
    def moved(self) -> dict[int, int]:
        """Those of `old` whose id the data uses for something else."""
        return {before: now for before, now in self.old.items() if before != now}

    def names(self) -> tuple[str, ...]:
        """Of the classes that only the weights know."""
        return tuple(self.table.names[self.table.label(now)] for now in self.old.values())


def merged_classes(new: ClassTable, old: ClassTable) -> MergedClasses:
    """Put the classes of new data beside those that weights know, matched by name (`match_classes`).

    >>> merged = merged_classes(ClassTable((1, 2), ("cat", "bird")), ClassTable((1, 5, 7), ("dog", "bird", "cow")))
    >>> merged.table.to_json()  # 1 is cat's now, the next free id is 8
    [{'id': 8, 'name': 'dog'}, {'id': 2, 'name': 'bird'}, {'id': 7, 'name': 'cow'}, {'id': 1, 'name': 'cat'}]
    >>> merged.old, merged.names()
    ({1: 8, 7: 7}, ('dog', 'cow'))
    """
    match = match_classes(new, old)
    shared = {theirs: ours for ours, theirs in match.pairs}
    free = max((*new.category_ids, *old.category_ids)) + 1
    rows: list[tuple[int, str]] = []
    ids: dict[int, int] = {}
    for label, (category_id, name) in enumerate(zip(old.category_ids, old.names, strict=True)):
        if label in shared:
            rows.append((new.category_ids[shared[label]], new.names[shared[label]]))
            continue
        now = category_id
        if category_id in new.category_ids:
            now, free = free, free + 1
        ids[category_id] = now
        rows.append((now, name))
    both = set(shared.values())
    rows += [row for label, row in enumerate(zip(new.category_ids, new.names, strict=True)) if label not in both]
    return MergedClasses(ClassTable(tuple(i for i, _ in rows), tuple(name for _, name in rows)), ids)


@dataclass(frozen=True, slots=True)
class KeptClasses:
    """What a run learns with beside its data so as not to forget: the table of all classes, and what the source model
    sees of the old ones in the training images.

    Args:
        classes: of the model.
        image: i64 [N], the image id of each object.
        category: i64 [N], its category id.
        boxes: f64 [N, 4], x y w h in pixels of the image.
        sure: bool [N]; where not, it is an ignored region.
    """

    classes: ClassTable
    image: NDArray[np.int64]
    category: NDArray[np.int64]
    boxes: NDArray[np.float64]
    sure: NDArray[np.bool_]

    def learnt(self, train: AnnotatedImages) -> AnnotatedImages:
        """The training images with all classes and with what the source saw in them."""
        free = max((a.id for image in train.images for a in image.annotations), default=0) + 1
        seen: dict[int, list[Annotation]] = {}
        for number, (image_id, category_id) in enumerate(zip(self.image.tolist(), self.category.tolist(), strict=True)):
            x, y, w, h = self.boxes[number].tolist()
            found = Annotation(free + number, category_id, (x, y, w, h), w * h, iscrowd=not self.sure[number])
            seen.setdefault(image_id, []).append(found)
        images = (replace(image, annotations=(*image.annotations, *seen.get(image.id, ()))) for image in train.images)
        return replace(train, classes=self.classes, images=tuple(images))

    def judged(self, val: AnnotatedImages) -> AnnotatedImages:
        """The val split with all classes; of the old ones it has no object, so they are in no mean."""
        return replace(val, classes=self.classes)

    def lines(self, merged: MergedClasses, weights: str) -> list[str]:
        """What is kept, in words."""
        names = merged.names()
        many = counted(len(names), "class", "classes")
        ids = {now: before for before, now in merged.moved.items()}
        sure = int(np.count_nonzero(self.sure))
        lines = [f"Classes kept from {weights}: {many} that the data does not have{in_brackets(names)}"]
        lines += [
            f"Category id {ids[now]} is the data's, so {name} has id {now} from now on"
            for now, name in zip(merged.old.values(), names, strict=True)
            if now in ids
        ]
        lines.append(
            f"The source model sees {counted(sure, 'object')} of them in the training images, learnt as labels, and "
            f"suspects {len(self.sure) - sure} more, ignored"
        )
        if not sure:
            lines.append(
                "So nothing reminds the model of them, and what learns forgets them; hold more still, as --strategy "
                "head does, and see by --guard"
            )
        return lines

    def to_state(self) -> dict[str, Any]:
        """In tensors and plain values."""
        arrays = {name: torch.from_numpy(getattr(self, name)) for name in _ARRAYS}
        return {"classes": self.classes.to_json(), **arrays}

    @classmethod
    def from_state(cls, saved: Mapping[str, Any]) -> KeptClasses:
        """The inverse of `to_state`."""
        arrays = {name: saved[name].numpy() for name in _ARRAYS}
        return cls(ClassTable.from_json(saved["classes"]), **arrays)


_ARRAYS = ("image", "category", "boxes", "sure")


def keep_classes(
    config: Config,
    source: LoadedModel | BackboneWeights | None,
    train: AnnotatedImages,
    device: torch.device,
    say: Callable[[str], None],
    listen: Listener,
) -> KeptClasses:
    """Merge the classes of a run's data and weights, and let the source look for the old ones.

    Args:
        train: the training images with their own labels.
        say: told, line by line, what is kept.
        listen: told how many images are through.

    Raises:
        UsageError: there is nothing to keep classes of, or they cannot be kept in this model.
        DataError: an image cannot be read.
    """
    loaded = _source_of_classes(config, source)
    merged = merged_classes(train.classes, loaded.classes)
    rows = _seen(config, loaded, merged, train, device, listen) if merged.old else []
    kept = KeptClasses(
        merged.table,
        image=np.array([row["image_id"] for row in rows], np.int64),
        category=np.array([merged.old[row["category_id"]] for row in rows], np.int64),
        boxes=np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4),
        sure=np.array([row["score"] >= SURE for row in rows], np.bool_),
    )
    if not merged.old:
        say(f"Classes kept: {loaded.path} knows none that the data does not have")
        return kept
    for line in kept.lines(merged, str(loaded.path)):
        say(line)
    return kept


def _source_of_classes(config: Config, source: LoadedModel | BackboneWeights | None) -> LoadedModel:
    """The model whose classes are kept."""
    if task_of(config) != "detect" or is_fitted(config):
        raise UsageError(
            f"--keep-classes is for detectors that learn step by step, model {config.model} is none; leave it out"
        )
    if not isinstance(source, LoadedModel):
        what = "these are random" if source is None else "these are of a backbone alone"
        raise UsageError(f"--keep-classes keeps the classes of trained weights, {what}; give some by --weights FILE")
    if not issubclass(MODELS[config.model], type(source.model)):
        raise UsageError(
            f"--keep-classes keeps the classes of a model in one of the same kind, {source.path} is a "
            f"{source.recipe.model} and this is a {config.model}; leave out --model"
        )
    return source


def _seen(
    config: Config,
    source: LoadedModel,
    merged: MergedClasses,
    train: AnnotatedImages,
    device: torch.device,
    listen: Listener,
) -> list[dict[str, Any]]:
    """COCO results rows of the source on the training images, in its own category ids: of the classes that only it
    knows, from `SUSPECTED` on, where nobody has labelled an object."""
    done = 0

    def count(images: int) -> None:
        nonlocal done
        done += images
        listen(ImagesDone("looking for old classes", done, len(train.images)))

    rows = rows_as_trained(
        source,
        train,
        device=device,
        amp=config.train.amp,
        workers=config.workers,
        iou=SAME_OBJECT,
        proposals=proposals_file(config, "train"),
        on_images=count,
    )
    found = [row for row in rows if row["category_id"] in merged.old and row["score"] >= SUSPECTED]
    return _where_no_label_is(found, train)


def _where_no_label_is(rows: list[dict[str, Any]], train: AnnotatedImages) -> list[dict[str, Any]]:
    """Those rows whose box is not that of a labelled object: what someone has named is not the source's to name."""
    labelled = {
        image.id: _corners([a.bbox for a in image.annotations if not a.iscrowd]) for image in train.images
    }  # fmt: skip
    return [
        row
        for row in rows
        if not (box_iou(_corners([row["bbox"]]), labelled[row["image_id"]]) >= SAME_OBJECT).any()
    ]  # fmt: skip


def _corners(boxes: list[Any]) -> torch.Tensor:
    """f32 [N, 4] x y w h -> x1 y1 x2 y2."""
    xywh = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return torch.cat((xywh[:, :2], xywh[:, :2] + xywh[:, 2:]), 1)

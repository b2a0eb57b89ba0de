"""What a model takes over from another's weights: every tensor, and of those with rows for each class the rows of the
classes that both know by name; from a model of another kind, such as a classifier for a detector, the backbone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from visionkit.build import LoadedModel, Model
from visionkit.classes import ClassMatch, ClassTable, in_brackets, match_classes
from visionkit.config import Recipe
from visionkit.counted import counted
from visionkit.errors import CheckpointError
from visionkit.types import ClassRows

BACKBONE = "backbone."
"""How the names of a backbone's tensors begin in every model."""

PARTS_BY_NAME = ("norm", "activation")
"""Settings that decide which tensors a backbone of a name has."""

HEAD_PARTS = ("auxiliary", "fine_skip", "skip_width")
"""And those that decide it for the head of a segmenter."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """What starting from a weights file gave a model.

    Args:
        source: the weights file.
        sha256: of it.
        loaded: names of the tensors that were taken over whole.
        class_rows: names of the tensors that were taken over row by row, those of the shared classes.
        match: the classes of the model (`wanted`) among those of the weights (`given`).
        other_kind: the name of the model in the weights, where it is of another kind: then only its backbone counts.
        fresh: names of the tensors that keep their fresh start as a whole: where it is of another kind, or this model
            is an extension of the one in the weights.
        unused: names of the weights' tensors that have no place in this model, where it is of another kind.
    """

    source: Path
    sha256: str
    loaded: tuple[str, ...]
    class_rows: tuple[str, ...]
    match: ClassMatch
    other_kind: str = ""
    fresh: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def reinitialised(self) -> tuple[str, ...]:
        """Names of the tensors that hold rows which start fresh."""
        return self.fresh + (self.class_rows if self.match.missing else ())

    def lines(self) -> list[str]:
        """The same in words: a line where the classes are the same, else a small table."""
        count = len(self.loaded) + len(self.class_rows)
        if self.other_kind:
            return [f"Weights from {self.source}, of another model, {self.other_kind}:", *self._lines_of_backbone()]
        if self.match.same and not self.fresh:
            return [f"Weights from {self.source}: {counted(count, 'tensor')} loaded, the classes are the same"]
        rows = [(part, _part_words(numbers)) for part, numbers in self._parts().items()]
        for part, number in Counter(name.split(".")[0] for name in self.fresh).items():
            rows.append((part, f"{counted(number, 'tensor')} fresh, the weights have none"))
        rows.append(("class rows", _class_words(self.match)))
        rows += [("", f"{ours} is {theirs} in the weights") for ours, theirs in self.match.respelled]
        return [f"Weights from {self.source}:", *(f"  {part:<10}  {words}" for part, words in rows)]

    def _lines_of_backbone(self) -> list[str]:
        rows = [("backbone", f"{counted(len(self.loaded), 'tensor')} loaded")]
        for part, number in Counter(name.split(".")[0] for name in self.fresh).items():
            rows.append((part, f"{counted(number, 'tensor')} fresh, the weights are of another model"))
        for part, number in Counter(name.split(".")[0] for name in self.unused).items():
            rows.append(("unused", f"{counted(number, 'tensor')} of its {part}"))
        return [f"  {part:<10}  {words}" for part, words in rows]

    def to_json(self) -> dict[str, Any]:
        """The same for machines: counts by part of the model, names of tensors and classes."""
        if self.other_kind:
            return {
                "weights": str(self.source),
                "sha256": self.sha256,
                "model": self.other_kind,
                "loaded": list(self.loaded),
                "fresh": list(self.fresh),
                "unused": list(self.unused),
            }
        match, ours, theirs = self.match, self.match.wanted.names, self.match.given.names
        carried = [{"name": ours[label], "from": theirs[found]} for label, found in match.pairs]
        return {
            "weights": str(self.source),
            "sha256": self.sha256,
            "parts": self._parts(),
            "loaded": list(self.loaded),
            "class_rows": list(self.class_rows),
            "fresh": list(self.fresh),
            "classes": {"carried": carried, "fresh": list(match.missing), "unused": list(match.unused)},
        }

    def _parts(self) -> dict[str, dict[str, int]]:
        """Of each part, the model's children by name: how many tensors were loaded whole, how many row by row."""
        loaded, rows = (Counter(name.split(".")[0] for name in names) for names in (self.loaded, self.class_rows))
        return {part: {"loaded": loaded[part], "class_rows": rows[part]} for part in loaded | rows}


def _part_words(numbers: dict[str, int]) -> str:
    words = f"{counted(numbers['loaded'], 'tensor')} loaded"
    return words + (f", {numbers['class_rows']} rebuilt for the classes" if numbers["class_rows"] else "")


def _class_words(match: ClassMatch) -> str:
    words = f"{len(match.shared)} of {len(match.wanted)} carried over{in_brackets(match.shared)}"
    if match.missing:
        words += f"; {len(match.missing)} fresh, not in the weights{in_brackets(match.missing)}"
    if match.unused:
        words += f"; {len(match.unused)} unused, not in the data{in_brackets(match.unused)}"
    return words


def transfer_weights(model: Model, classes: ClassTable, source: LoadedModel, recipe: Recipe | None = None) -> Transfer:
    """Load a trained model's tensors; of those with rows for each class, the rows of the classes both know by name.

    All other class rows keep their fresh start, whatever the order of the classes on either side. A model that extends
    the one in the weights, as `yolo-masks` does `yolo`, starts fresh in what it has besides. Of a model of
    another kind the backbone is loaded, and everything else keeps its fresh start.

    Args:
        model: for `classes`; changed in place, or not at all.
        recipe: what it was built from, so that an error can say what of it does not fit.

    Raises:
        CheckpointError: a tensor is on one side only, or has another shape for another reason than its classes.
    """
    if not isinstance(model, type(source.model)):
        return _transfer_backbone(model, classes, source, recipe)
    own, given = model.state_dict(), source.model.state_dict()
    rows = model.class_rows
    extends = type(model) is not type(source.model)
    fresh = tuple(name for name in own if extends and name not in given)
    unfit = [
        name
        for name in own | given
        if name not in fresh and not _fits(name, own, given, rows, len(classes), len(source.classes))
    ]
    if unfit:
        trained_with = f"model and backbone it was trained with, {source.name}"
        remedy = _remedy(source, recipe, trained_with, (*PARTS_BY_NAME, *HEAD_PARTS))
        raise CheckpointError(
            f"{source.path} does not fit this model: {counted(len(unfit), 'tensor')} missing, unknown or of another "
            f"shape, such as {unfit[0]}; {remedy}"
        )
    match = match_classes(classes, source.classes)
    ours, theirs = [label for label, _ in match.pairs], [label for _, label in match.pairs]
    whole = tuple(name for name in own if name not in rows and name not in fresh)
    merged = {**own, **{name: given[name] for name in whole}}
    for name, where in rows.items():
        to, of = (
            torch.tensor(where.rows(labels, len(table)), dtype=torch.int64)
            for labels, table in ((ours, classes), (theirs, source.classes))
        )
        merged[name] = own[name].index_copy(where.dim, to, given[name].index_select(where.dim, of))
    model.load_state_dict(merged)
    return Transfer(source.path, source.sha256, whole, tuple(rows), match, fresh=fresh)


def _transfer_backbone(model: Model, classes: ClassTable, source: LoadedModel, recipe: Recipe | None) -> Transfer:
    own, given = model.state_dict(), source.model.state_dict()
    shared = [name for name in own | given if name.startswith(BACKBONE)]
    unfit = [name for name in shared if not _fits(name, own, given, {}, 0, 0)]
    if unfit:
        remedy = _remedy(source, recipe, f"backbone it was trained with, {source.recipe.backbone}")
        raise CheckpointError(
            f"{source.path} does not fit this model's backbone: {counted(len(unfit), 'tensor')} missing, unknown or of "
            f"another shape, such as {unfit[0]}; {remedy}"
        )
    model.load_state_dict({**own, **{name: given[name] for name in shared}})
    return Transfer(
        source.path,
        source.sha256,
        loaded=tuple(shared),
        class_rows=(),
        match=match_classes(classes, source.classes),
        other_kind=source.name,
        fresh=tuple(name for name in own if not name.startswith(BACKBONE)),
        unused=tuple(name for name in given if not name.startswith(BACKBONE)),
    )


def _remedy(source: LoadedModel, recipe: Recipe | None, trained_with: str, parts: Sequence[str] = PARTS_BY_NAME) -> str:
    """What to do where tensors do not fit: where the backbone is the same, what of its parts differs; else to use what
    the weights were trained with."""
    own = source.recipe
    if recipe is not None and recipe.backbone == own.backbone:
        others = [name for name in parts if getattr(recipe, name) != getattr(own, name)]
        if others:
            wanted = " and ".join(f"{name}={getattr(own, name)}" for name in others)
            asked = " and ".join(f"{name}={getattr(recipe, name)}" for name in others)
            left = " and ".join(others)
            return f"it was trained with {wanted}, not {asked}: leave {left} out, or give --weights scratch"
    return f"use the {trained_with}"


def _fits(
    name: str,
    own: dict[str, Tensor],
    given: dict[str, Tensor],
    rows: dict[str, ClassRows],
    own_classes: int,
    given_classes: int,
) -> bool:
    """Whether a tensor stands on both sides, in shapes that differ by no more than their classes."""
    if name not in own or name not in given:
        return False
    expected = list(own[name].shape)
    if name in rows:
        assert expected[rows[name].dim] == rows[name].length(own_classes)
        expected[rows[name].dim] = rows[name].length(given_classes)
    return list(given[name].shape) == expected

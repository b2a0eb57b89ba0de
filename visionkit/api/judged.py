"""What is judged on data: a model in PyTorch, or an exported graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from visionkit.api.load import load
from visionkit.api.weights import find_model
from visionkit.build import LoadedModel
from visionkit.classes import ClassTable
from visionkit.config import Recipe
from visionkit.engine.events import Listener
from visionkit.errors import CheckpointError
from visionkit.predict.graph_backend import GraphBackend
from visionkit.predict.open_graph import GRAPHS
from visionkit.predict.tiling import Tiling
from visionkit.result import Task
from visionkit.score_map import ScoreMap

USUAL_MODEL: Mapping[Task, str] = {"detect": "yolo", "classify": "classifier", "segment": "fcn8s"}
"""What the first graphs are of, which do not say their recipe."""


@dataclass(frozen=True, slots=True)
class LoadedGraph:
    """An exported graph, with what `LoadedModel` knows of a model in PyTorch.

    Args:
        recipe: how its model was trained.
    """

    path: Path
    backend: GraphBackend
    recipe: Recipe

    @property
    def task(self) -> Task:
        return self.backend.task

    @property
    def name(self) -> str:
        return self.backend.name

    @property
    def classes(self) -> ClassTable:
        return self.backend.classes

    @property
    def score_map(self) -> ScoreMap | None:
        return self.backend.score_map

    def image_size(self, asked: int | None) -> int:
        """The side of the square network input in pixels, which was chosen when the graph was opened."""
        assert asked in (None, self.backend.image_size)
        return self.backend.image_size

    @property
    def tiling(self) -> Tiling | None:
        """How it learnt to see larger images; None: whole."""
        return self.backend.card.tiling


Judged = LoadedModel | LoadedGraph


def open_judged(
    weights: str | Path,
    *,
    model: str | None = None,
    imgsz: int | None = None,
    device: str = "auto",
    threads: int = 0,
    amp: bool | None = None,
    offline: bool = False,
    listen: Listener = lambda event: None,
    say: Callable[[str], None] = lambda line: None,
) -> Judged:
    """The model that weights name, or the graph.

    Args:
        model: what `coco` has to fit.
        imgsz, device, threads, amp: of a graph, as `load` takes them; a model is not moved yet.
        others: as for `find_model`.

    Raises:
        UsageError, CheckpointError, VisionkitError: as `find_model` and `load`; or a graph has a recipe that this
            version cannot read.
    """
    path = Path(weights)
    if path.suffix.lower() not in GRAPHS:
        return find_model(weights, model=model, offline=offline, listen=listen, say=say)
    backend = load(path, device=device, imgsz=imgsz, threads=threads, amp=amp).backend
    assert isinstance(backend, GraphBackend)
    card = backend.card
    try:
        recipe = Recipe.model_validate({"model": USUAL_MODEL[card.task], "imgsz": card.imgsz, **card.recipe})
    except ValidationError as error:
        reason = ", ".join(".".join(map(str, problem["loc"])) for problem in error.errors())
        raise CheckpointError(f"{path} has a recipe this version cannot read ({reason}); update visionkit") from None
    return LoadedGraph(path, backend, recipe)


def task_of_judged(judged: Judged) -> Task:
    """What it is for."""
    return judged.task if isinstance(judged, LoadedGraph) else judged.model.task

"""The numbered units of a model: what `--freeze` counts, and what each of them is, costs and sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from visionkit.api.weights import published_name
from visionkit.backbones.names import is_backbone
from visionkit.build import BACKBONES, MODELS, build_model, load_model, published_recipe
from visionkit.classes import ClassTable
from visionkit.config import Recipe
from visionkit.errors import UsageError
from visionkit.models.assembly import run_whole
from visionkit.models.rcnn import Rcnn
from visionkit.nn.freeze import freeze, select_units
from visionkit.nn.units import UnitRow, unit_rows
from visionkit.published.models import is_published


@dataclass(frozen=True, slots=True)
class Layers:
    """The unit table of a model.

    Args:
        name: `MODEL/BACKBONE`.
        image_size: side in pixels of the image that the table is for.
        parameters: of the whole model.
        sentence: what is frozen; empty where nothing is.
        region: side in pixels of the square as which the backbone sees each region of an image, where it sees nothing
            else, as that of `rcnn`: then shapes, fields and multiply-adds are of one such square, whatever the image.
        fitted: numbers of the head that are fitted at once; they are no parameters, and no unit has them.
    """

    name: str
    image_size: int
    rows: tuple[UnitRow, ...]
    parameters: int
    sentence: str
    region: int | None = None
    fitted: int = 0

    @property
    def multiply_adds(self) -> int:
        """Of all units, for one image, or for one region where the backbone sees nothing else."""
        return sum(row.multiply_adds for row in self.rows)

    @property
    def regions(self) -> int | None:
        """How many regions of the image the head was run on; None where a model has no such units."""
        return next(iter(self._regions), None)

    @property
    def masks(self) -> int | None:
        """How many detections masks were said of; None where a model says none, or of as many as it has regions."""
        return self._regions[-1] if len(set(self._regions)) > 1 else None

    @property
    def _regions(self) -> list[int]:
        return [of_map.count for row in self.rows for of_map in row.maps if of_map.count != 1]


def layers(
    model: str | Path = "yolo",
    *,
    backbone: str = "csp-light",
    freeze_specs: Sequence[str] = (),
    classes: int = 80,
    imgsz: int = 640,
) -> Layers:
    """The units of a model by name, or of a weights file.

    Nothing is downloaded: the units of a published model do not depend on its weights.

    Args:
        model: a model's name, a .safetensors file, `coco`, or `torchvision:NAME`.
        backbone: for a model by name.
        freeze_specs: units to mark as frozen, as `--freeze` takes them.
        classes: for a model by name.
        imgsz: side in pixels of the image for which shapes and multiply-adds are shown; `rcnn`, which warps regions of
            any image to a size of its own, has no use for it.

    Raises:
        UsageError: unknown names, or specs that match nothing.
        CheckpointError: the file is missing or damaged.
    """
    if imgsz < 1:
        raise UsageError(f"image size must be a positive number of pixels, got {imgsz}; use 640")
    if is_published(model):
        recipe, table = published_recipe(published_name(str(model)))
        network, name = build_model(recipe, table), recipe.architecture
    elif Path(model).suffix or Path(model).exists():
        loaded = load_model(Path(model))
        network, name = loaded.model, loaded.name
    else:
        if is_backbone(str(model)):
            raise UsageError(
                f"{model} is a backbone and no model; name a model and give it as --backbone, such as "
                f"classifier --backbone {model}"
            )
        for kind, value, known in (("model", str(model), MODELS), ("backbone", backbone, BACKBONES)):
            if value not in known and not (known is BACKBONES and is_backbone(value)):
                raise UsageError(f"unknown {kind} {value!r}; choose one of {', '.join(known)}, or give a weights file")
        table = ClassTable(tuple(range(1, classes + 1)), tuple(f"class {i}" for i in range(1, classes + 1)))
        network = build_model(Recipe(model=model, backbone=backbone), table)
        name = f"{model}/{backbone}"
    numbers = select_units(network.units, freeze_specs)
    sentence = freeze(network, network.units, numbers).sentence() if numbers else ""
    parameters = sum(p.numel() for p in network.parameters())
    if isinstance(network, Rcnn):
        rows = unit_rows(network, network.units, network.warp, numbers, run=_run_backbone)
        fitted = sum(buffer.numel() for buffer in network.head.buffers())
        return Layers(name, imgsz, rows, parameters, sentence, network.warp, fitted)
    rows = unit_rows(network, network.units, imgsz, numbers, run=run_whole)
    return Layers(name, imgsz, rows, parameters, sentence)


def _run_backbone(model: nn.Module, regions: Tensor) -> None:
    """What R-CNN does with regions [R, 3, H, W] that it has cut out and warped."""
    model.get_submodule("backbone")(regions)

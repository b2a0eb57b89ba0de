"""The numbered units of a model: what `--freeze` counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from visionkit.backbones.names import is_backbone
from visionkit.build import BACKBONES, MODELS, build_model, load_model
from visionkit.classes import ClassTable
from visionkit.config import Recipe
from visionkit.errors import UsageError
from visionkit.nn.freeze import freeze, select_units
from visionkit.nn.units import UnitRow, unit_rows


@dataclass(frozen=True, slots=True)
class Layers:
    """The unit table of a model, and the sentence about what is frozen; empty where nothing is."""

    name: str
    image_size: int
    rows: tuple[UnitRow, ...]
    sentence: str


def layers(
    model: str | Path = "yolo",
    *,
    backbone: str = "csp-light",
    freeze_specs: Sequence[str] = (),
    classes: int = 80,
    imgsz: int = 640,
) -> Layers:
    """The units of a model by name, or of a weights file.

    Args:
        model: a model's name, or a .safetensors file.
        backbone: for a model by name.
        freeze_specs: units to mark as frozen, as `--freeze` takes them.
        classes: for a model by name.
        imgsz: side in pixels of the image whose output shapes are shown.

    Raises:
        UsageError: unknown names, or specs that match nothing.
        CheckpointError: the file is missing or damaged.
    """
    if imgsz < 1:
        raise UsageError(f"image size must be a positive number of pixels, got {imgsz}; use 640")
    if Path(model).suffix or Path(model).exists():
        loaded = load_model(Path(model))
        network, name = loaded.model, loaded.name
    else:
        for kind, value, known in (("model", str(model), MODELS), ("backbone", backbone, BACKBONES)):
            if value not in known and not (known is BACKBONES and is_backbone(value)):
                raise UsageError(f"unknown {kind} {value!r}; choose one of {', '.join(known)}, or give a weights file")
        table = ClassTable(tuple(range(1, classes + 1)), tuple(f"class {i}" for i in range(1, classes + 1)))
        network = build_model(Recipe(model=model, backbone=backbone), table)
        name = f"{model}/{backbone}"
    numbers = select_units(network.units, freeze_specs)
    sentence = freeze(network, network.units, numbers).sentence() if numbers else ""
    return Layers(name, imgsz, unit_rows(network, network.units, imgsz, numbers), sentence)

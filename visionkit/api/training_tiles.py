"""How a recipe has large images cut for training, as prediction and evaluation with the same tiles will see them."""

from __future__ import annotations

from visionkit.build import MODELS
from visionkit.config import Recipe
from visionkit.data.augment import AugmentSettings, preset
from visionkit.data.dataset import DetectionDataset
from visionkit.data.semantic import SemanticDataset
from visionkit.data.tiles import TiledDataset
from visionkit.errors import ConfigError
from visionkit.models.rcnn import Rcnn
from visionkit.predict.tiling import Tiling


def training_tiling(recipe: Recipe) -> Tiling | None:
    """How large images are cut; None where they are seen whole.

    Raises:
        ConfigError: the model cannot learn from tiles.
        UsageError: a tile that is too small.
    """
    if not recipe.tile:
        return None
    model = MODELS[recipe.model]
    if model.task == "classify":
        raise ConfigError(f"model {recipe.model} learns whole pictures, which have no tiles; leave tile at 0")
    if model.wants_proposals or model is Rcnn:
        raise ConfigError(f"model {recipe.model} is fed by proposals on whole images; leave tile at 0")
    return Tiling(recipe.tile, recipe.overlap)


def in_tiles(
    recipe: Recipe, images: DetectionDataset | SemanticDataset
) -> DetectionDataset | SemanticDataset | TiledDataset:
    """A training split with its large images in tiles, where the recipe says so. Raises as `training_tiling`."""
    tiling = training_tiling(recipe)
    if tiling is None:
        return images
    sizes = (images if isinstance(images, DetectionDataset) else images.images).sizes
    grids = (tiling.grid(height, width) for width, height in sizes.tolist())
    return TiledDataset(images, [[] if grid is None else grid.windows for grid in grids], least_visible(recipe))


def least_visible(recipe: Recipe) -> float:
    """Objects of which a smaller share of the area shows in a tile are not learnt there."""
    settings = recipe.augment if isinstance(recipe.augment, AugmentSettings) else preset(recipe.augment)
    return settings.min_visible

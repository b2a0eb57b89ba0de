"""The model that options name, loaded while the user sees how far a download is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visionkit.cli.progress import loading_progress, say
from visionkit.errors import UsageError

if TYPE_CHECKING:
    from visionkit.api.detect import Detector


def loaded_model(
    weights: str,
    *,
    device: str | None,
    imgsz: int | None,
    threads: int | None,
    amp: bool | None,
    offline: bool,
    exact: bool = False,
    why: bool = False,
) -> Detector:
    """What `visionkit.load` gives; an option that is None is left to it."""
    from visionkit.api.load import load

    with loading_progress() as listen:
        return load(
            weights,
            device=device or "auto",
            imgsz=imgsz,
            threads=threads or 0,
            amp=amp,
            exact=exact,
            why=why,
            offline=offline,
            listen=listen,
            say=say,
        )


def say_trained_tiles(detector: Detector, tile: int | None) -> None:
    """Say that a model that learnt from tiles sees them, where `--tile` says nothing."""
    if tile is None and detector.tiling is not None:
        say(f"Larger images are seen in tiles of {detector.tiling.size} px, as trained; --tile 0 sees them whole")


def require_other_than_bundled(weights: str, command: str, kind: str, remedy: str) -> None:
    """A command named after a kind of model must not silently run the bundled one, which is a detector.

    Args:
        remedy: where weights of that kind come from.

    Raises:
        UsageError: the weights are the bundled model.
    """
    from visionkit.bundled.files import DEFAULT_WEIGHTS

    if weights == DEFAULT_WEIGHTS:
        raise UsageError(
            f"{command} needs the weights of a {kind}, and the bundled model is a detector; give --weights FILE, "
            f"{remedy}, or use visionkit detect"
        )

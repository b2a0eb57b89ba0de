"""visionkit: train object detectors on your own COCO-format data, know honestly how good they are, ship them.

The functions here are the commands of the command line under the same names. They are imported when first used, so
`import visionkit` stays instant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from visionkit.version import __version__

if TYPE_CHECKING:
    from visionkit.api.advise import advise
    from visionkit.api.augment_preview import augment_preview
    from visionkit.api.compare import compare
    from visionkit.api.convert import convert
    from visionkit.api.detect import Detector, load
    from visionkit.api.doctor import doctor
    from visionkit.api.evaluate import evaluate, evaluate_predictions
    from visionkit.api.finetune import finetune
    from visionkit.api.layers import layers
    from visionkit.api.propose import propose
    from visionkit.api.split import split
    from visionkit.result import Result

__all__ = [
    "Detector",
    "Result",
    "__version__",
    "advise",
    "augment_preview",
    "compare",
    "convert",
    "doctor",
    "evaluate",
    "evaluate_predictions",
    "finetune",
    "layers",
    "load",
    "propose",
    "split",
]

_HOME = {
    "Detector": "visionkit.api.detect",
    "Result": "visionkit.result",
    "advise": "visionkit.api.advise",
    "augment_preview": "visionkit.api.augment_preview",
    "compare": "visionkit.api.compare",
    "convert": "visionkit.api.convert",
    "doctor": "visionkit.api.doctor",
    "evaluate": "visionkit.api.evaluate",
    "evaluate_predictions": "visionkit.api.evaluate",
    "finetune": "visionkit.api.finetune",
    "layers": "visionkit.api.layers",
    "load": "visionkit.api.detect",
    "propose": "visionkit.api.propose",
    "split": "visionkit.api.split",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'visionkit' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(_HOME[name]), name)

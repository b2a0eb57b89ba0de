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
    from visionkit.api.benchmark import benchmark
    from visionkit.api.compare import compare
    from visionkit.api.convert import convert
    from visionkit.api.detect import Detector
    from visionkit.api.doctor import doctor
    from visionkit.api.evaluate import evaluate, evaluate_predictions
    from visionkit.api.export import export
    from visionkit.api.finetune import finetune
    from visionkit.api.layers import layers
    from visionkit.api.load import load
    from visionkit.api.propose import propose
    from visionkit.api.result_conversions import (
        from_coco,
        from_pandas,
        from_supervision,
        to_coco,
        to_pandas,
        to_supervision,
    )
    from visionkit.api.split import split
    from visionkit.api.study import study
    from visionkit.result import Result

__all__ = [
    "Detector",
    "Result",
    "__version__",
    "advise",
    "augment_preview",
    "benchmark",
    "compare",
    "convert",
    "doctor",
    "evaluate",
    "evaluate_predictions",
    "export",
    "finetune",
    "from_coco",
    "from_pandas",
    "from_supervision",
    "layers",
    "load",
    "propose",
    "split",
    "study",
    "to_coco",
    "to_pandas",
    "to_supervision",
]

_HOME = {
    "Detector": "visionkit.api.detect",
    "Result": "visionkit.result",
    "advise": "visionkit.api.advise",
    "augment_preview": "visionkit.api.augment_preview",
    "benchmark": "visionkit.api.benchmark",
    "compare": "visionkit.api.compare",
    "convert": "visionkit.api.convert",
    "doctor": "visionkit.api.doctor",
    "evaluate": "visionkit.api.evaluate",
    "evaluate_predictions": "visionkit.api.evaluate",
    "export": "visionkit.api.export",
    "finetune": "visionkit.api.finetune",
    "from_coco": "visionkit.api.result_conversions",
    "from_pandas": "visionkit.api.result_conversions",
    "from_supervision": "visionkit.api.result_conversions",
    "layers": "visionkit.api.layers",
    "load": "visionkit.api.load",
    "propose": "visionkit.api.propose",
    "split": "visionkit.api.split",
    "study": "visionkit.api.study",
    "to_coco": "visionkit.api.result_conversions",
    "to_pandas": "visionkit.api.result_conversions",
    "to_supervision": "visionkit.api.result_conversions",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'visionkit' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(_HOME[name]), name)

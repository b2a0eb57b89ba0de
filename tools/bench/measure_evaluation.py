"""COCO evaluation of files by one contestant, visionkit or pycocotools: seconds, memory and the twelve numbers.

Seconds are of processor time: both use one thread, and what else a machine does is no matter of theirs.
"""

# ruff: noqa: PLC0415 - what the other contestant imports is none of this one's memory

from __future__ import annotations

import contextlib
import io
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

Said = dict[str, Any]


def visionkit(truth_file: Path, results_file: Path, task: str) -> Said:
    from visionkit.formats.coco import read_coco
    from visionkit.formats.coco_results import read_results
    from visionkit.metrics.coco_map import coco_scores
    from visionkit.metrics.referee import TWELVE

    start = process_time()
    truth = read_coco(truth_file)
    scores = coco_scores(truth, read_results(results_file, truth), task)  # type: ignore[arg-type]
    whole, most = process_time() - start, peak()
    # Evaluate and accumulate alone are timed in a process of their own: nothing is warm there either.
    again = [sys.executable, __file__, "visionkit-arrays", str(truth_file), str(results_file), task]
    evaluated = float(subprocess.run(again, capture_output=True, text=True, check=True).stdout)
    return report(evaluated, whole, most, [getattr(scores, name) for name in TWELVE])


def seconds_to_arrays(truth_file: Path, results_file: Path, task: str) -> float:
    """From records in memory to the arrays that pycocotools' evaluate and accumulate end with."""
    from visionkit.formats.coco import read_coco
    from visionkit.formats.coco_results import read_results
    from visionkit.metrics.coco_columns import detection_columns, truth_columns
    from visionkit.metrics.coco_precision import judge, precision_and_recall

    truth = read_coco(truth_file)
    rows = read_results(results_file, truth)
    start = process_time()
    objects, found = truth_columns(truth, task), detection_columns(truth, rows, task)  # type: ignore[arg-type]
    precision_and_recall(objects, judge(objects, found), len(truth.classes))
    return process_time() - start


def pycocotools(truth_file: Path, results_file: Path, task: str) -> Said:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        start = process_time()
        truth = COCO(str(truth_file))
        found = truth.loadRes(str(results_file))
        evaluator = COCOeval(truth, found, task)
        before = process_time()
        evaluator.evaluate()
        evaluator.accumulate()
        evaluated = process_time() - before
        evaluator.summarize()
        whole = process_time() - start
    return report(evaluated, whole, peak(), [None if value == -1 else float(value) for value in evaluator.stats])


def report(evaluated: float, whole: float, most: float, numbers: list[float | None]) -> Said:
    # In hexadecimal every bit is told.
    return {
        "evaluate_seconds": evaluated,
        "files_to_numbers_seconds": whole,
        "peak_megabytes": most,
        "numbers": [None if value is None else value.hex() for value in numbers],
    }


def peak() -> float:
    """The most memory that this process has had, in megabytes; that of bare Python is a part of it."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most / 1e3


CONTESTANTS: dict[str, Callable[[Path, Path, str], Any]] = {
    "visionkit": visionkit,
    "visionkit-arrays": seconds_to_arrays,
    "pycocotools": pycocotools,
}

if __name__ == "__main__":
    name, truth_path, results_path, compared = sys.argv[1:]
    print(json.dumps(CONTESTANTS[name](Path(truth_path), Path(results_path), compared)))

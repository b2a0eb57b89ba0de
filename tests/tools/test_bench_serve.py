"""Many clients at once, good ones and bad ones: nobody gets another's answer, and the server ends as it should."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "bench"))

from serve_clients import KINDS, Said, Target, difference, png_of
from serve_load import Load, percentiles

from visionkit.bundled.files import bundled_onnx
from visionkit.errors import DataError
from visionkit.imaging.reader import decode_image

pytest.importorskip("uvicorn")

BENCH = Path(__file__).parents[2] / "tools" / "bench"
ITEM = {"bbox": [0, 0, 10, 10], "score": 0.8, "label": 1, "name": "cat"}


def test_an_answer_may_differ_by_rounding_alone() -> None:
    target = Target("", 0, [b""], [[ITEM]], 1, 1)
    assert difference(target, 0, [ITEM | {"score": 0.805, "bbox": [0.5, 0, 10, 9.5]}]) == ""
    assert (
        difference(target, 0, [ITEM, ITEM | {"score": 0.255, "bbox": [50, 50, 60, 60]}]) == ""
    )  # next to the threshold
    for other in ([], [ITEM | {"score": 0.7}], [ITEM | {"label": 2}], [ITEM | {"bbox": [2, 0, 10, 10]}]):
        assert "is in one answer and not in the other" in difference(target, 0, other)
    extra = [ITEM, {"bbox": [50, 50, 60, 60], "score": 0.5, "label": 0, "name": "dog"}]
    assert difference(target, 0, extra) == "picture 0: dog 0.5 is in one answer and not in the other"


def test_the_huge_picture_is_small_and_is_refused_everywhere() -> None:
    bomb = png_of(95_000)
    assert len(bomb) < 50_000
    with pytest.raises(DataError, match="95000x95000 pixels"):
        decode_image(bomb, "bomb")


def test_what_is_reported() -> None:
    # Of 1, 2, ... 101 ms the median is 51 and 99 of 100 steps up is 100.
    assert percentiles([n / 1000 for n in range(1, 102)]) == {"p50": 51.0, "p99": 100.0}
    assert percentiles([]) is None
    load = Load(
        alone=[Said("good", 200, 0.01)],
        together=[Said("good", 200, 0.02), Said("good", 503, 0.001), Said("broken", 422, 0.001, "")],
        seconds=2.0,
        memory=[(0, 100.0), (1, 150.0), (2, 160.0), (3, 164.0), (4, 158.0), (5, 150.0)],
    )
    said = load.to_json()
    assert said["statuses"] == {"broken": {422: 1}, "good": {200: 1, 503: 1}}
    assert said["together_ms"] == {"p50": 20.0, "p99": 20.0}
    assert said["answered_a_second"] == 0.5
    assert said["memory_mb"] == {"first": 100.0, "third_quarter": 164.0, "fourth_quarter": 154.0}


@pytest.mark.skipif(bundled_onnx(checked=False) is None, reason="this version bundles no model")
def test_a_short_load() -> None:
    """The figure of `tools/bench serve --clients 64 --seconds 60`, made small."""
    done = subprocess.run(
        [sys.executable, str(BENCH), "serve", "--clients", "8", "--seconds", "5", "--threads", "1", "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["wrong"] == []
    assert said["exit_code"] == 143
    assert set(said["drained"]) == {"200"}
    good = said["statuses"]["good"]
    assert good["200"] > 5
    assert set(good) <= {"200", "503"}
    assert len(said["statuses"]) > len(KINDS) // 2

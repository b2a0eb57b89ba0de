"""The benchmark's arithmetic and the protocol of its contestants, with fake commands; and one tiny run of each kind."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from masks import write_masks

from visionkit.build import BACKBONES

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "bench"))

from backbone_peers import PEERS
from contest import BenchError, Contestant, Turn, hold
from table import Row, first_minutes, summarise, table
from task import Task

BENCH = Path(__file__).parents[2] / "tools" / "bench"


def python(code: str) -> str:
    """A command that runs a line of Python."""
    return shlex.join([sys.executable, "-c", code])


def printing(**said: Any) -> str:
    return python(f"print('words'); print({json.dumps(said)!r})")


def turns(*values: tuple[str, int, float]) -> list[Turn]:
    """Turns of (name, threads, value); each name takes one a round."""
    rounds: dict[tuple[str, int], int] = {}
    made = []
    for name, threads, value in values:
        number = rounds[name, threads] = rounds.get((name, threads), -1) + 1
        made.append(Turn(number, name, threads, {"x": value}))
    return made


# Numbers --------------------------------------------------------------------------------------------------------------


def test_the_ratio_is_the_median_of_the_ratios_of_each_round() -> None:
    rows = summarise(turns(("a", 2, 30), ("b", 2, 10), ("a", 2, 8), ("b", 2, 8), ("a", 2, 40), ("b", 2, 20)), "x")
    # 30 / 10 = 3, 8 / 8 = 1 and 40 / 20 = 2: a slow second round falls on both. Of the medians it would be 30 / 10.
    assert rows == [Row("a", 2, (30, 8, 40), 30, 8, 40, None), Row("b", 2, (10, 8, 20), 10, 8, 20, 2)]


def test_each_number_of_threads_is_compared_with_itself() -> None:
    rows = summarise(turns(("a", 0, 10), ("b", 0, 5), ("a", 2, 20), ("b", 2, 40)), "x")
    assert [(row.name, row.threads, row.ratio) for row in rows] == [
        ("a", 0, None), ("b", 0, 2), ("a", 2, None), ("b", 2, 0.5),
    ]  # fmt: skip


def test_there_is_no_ratio_to_nothing() -> None:
    assert summarise(turns(("a", 0, 10), ("b", 0, 0)), "x")[1].ratio is None


def test_the_table() -> None:
    rows = summarise(turns(("ours", 0, 10.04), ("peer", 0, 4)), "x")
    assert table(rows, "images/s", 1).splitlines() == [
        "      threads  images/s  lowest  highest  ours / it",
        "ours  default      10.0    10.0     10.0",
        "peer  default       4.0     4.0      4.0       2.51",
    ]
    assert table(rows[:1], "AP", 2).splitlines() == [
        "      threads     AP  lowest  highest",
        "ours  default  10.04   10.04    10.04",
    ]


def test_the_first_minute_at_an_ap() -> None:
    curve = [(1.0, 0.1, 0.3), (2.0, 0.5, 0.7), (3.0, 0.4, 0.6), (4.0, 0.6, 0.9)]
    assert first_minutes(curve, [0.1, 0.2, 0.5, 0.55, 0.7]) == [1, 2, 2, 4, None]
    assert first_minutes([], [0.1]) == [None]


# The protocol ---------------------------------------------------------------------------------------------------------


def test_contestants_take_turns() -> None:
    contestants = [Contestant("a", printing(x=1)), Contestant("b", printing(x=2.5, more="words"))]
    told: list[Turn] = []
    held = hold(contestants, [Task(), Task()], [0, 2], ["x"], told.append)
    assert [(t.round, t.threads, t.name) for t in held] == [
        (r, threads, name) for r in (0, 1) for threads in (0, 2) for name in ("a", "b")
    ]
    assert told == held
    assert held[1].said == {"x": 2.5, "more": "words"}


TELL = (
    "import json, os; "
    "seen = {k: v for k, v in os.environ.items() if k.startswith(('VISIONKIT_BENCH', 'OMP_NUM'))}; "
    "print(json.dumps({'x': 1, 'seen': seen}))"
)


def test_a_command_reads_its_task_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("VISIONKIT_BENCH_THREADS", "7")
    task = Task(data="my data", imgsz=64, batch=4, steps=2, minutes=0.5, seed=3)
    contestant = Contestant("it", python(TELL))
    expected = {
        "VISIONKIT_BENCH_DATA": "my data", "VISIONKIT_BENCH_IMGSZ": "64", "VISIONKIT_BENCH_BATCH": "4",
        "VISIONKIT_BENCH_STEPS": "2", "VISIONKIT_BENCH_MINUTES": "0.5", "VISIONKIT_BENCH_SEED": "3",
    }  # fmt: skip
    # Its own default: nothing that was set outside says otherwise.
    assert contestant.run(task, ["x"])["seen"] == expected
    (equal,) = hold([contestant], [task], [2], ["x"])
    assert equal.said["seen"] == expected | {"VISIONKIT_BENCH_THREADS": "2", "OMP_NUM_THREADS": "2"}
    assert Task.from_environment(equal.said["seen"]) == Task("my data", 64, 4, 2, 0.5, 3, threads=2)
    assert Task.from_environment({}) == Task()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (python("raise SystemExit('no such data')"), "it failed with exit code 1: no such data"),
        ("exit 3", "it failed with exit code 3: it printed nothing"),
        (python("print('done')"), "it must print {\"x\": NUMBER} as its last line, got 'done'"),
        ("true", "it must print {\"x\": NUMBER} as its last line, got 'nothing'"),
        (printing(y=1), 'it must print {"x": NUMBER} as its last line, got \'{"y": 1}\''),
        (printing(x="fast"), 'it must print {"x": NUMBER} as its last line, got \'{"x": "fast"}\''),
    ],
)
def test_a_contestant_that_does_not_keep_to_it_ends_all_in_one_line(command: str, words: str) -> None:
    with pytest.raises(BenchError) as error:
        Contestant("it", command).run(Task(), ["x"])
    assert str(error.value) == words


def test_a_peer_is_a_name_and_a_command() -> None:
    assert Contestant.parse("other=A=1 run --x=2") == Contestant("other", "A=1 run --x=2")
    for text in ("run", "=run", "name=", " = "):
        with pytest.raises(BenchError, match=r"^a peer is NAME=COMMAND, got "):
            Contestant.parse(text)


# The command ----------------------------------------------------------------------------------------------------------


def bench(*arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCH), *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_help_names_the_benchmarks() -> None:
    done = bench("--help")
    assert done.returncode == 0
    words = ("training", "pipeline", "accuracy", "backbones", "detectors", "segmenters", "evaluation", "Example: ")
    assert all(word in done.stdout for word in words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["training", "--modes", "all"], "error: --modes are default, equal or default,equal, got 'all'"),
        (["detectors", "--jobs", "all"], "error: --jobs are training,inference or one of them, got 'all'"),
        (["accuracy", "--seeds", "a"], "error: --seeds takes numbers separated by commas, got 'a'"),
        (["pipeline", "--peer", "x"], "error: a peer is NAME=COMMAND, got 'x'; "),
        (["pipeline", "--data", "nowhere"], "error: visionkit failed with exit code 1: "),
        (["backbones", "--backbones", "lenet5"], "error: lenet5 failed with exit code 2: "),
    ],
)
def test_what_goes_wrong_is_one_line(arguments: list[str], words: str) -> None:
    done = bench(*arguments)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(words)


def test_a_tiny_training_and_its_peer(tiny_data: Path) -> None:
    done = bench(
        "training", "--data", tiny_data, "--imgsz", 32, "--batch", 4, "--steps", 2, "--rounds", 1, "--threads", 1,
        "--modes", "equal", "--set", "workers=0", "--peer", f"slow={printing(images_per_second=1)}", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    ours, slow = said["turns"]
    assert ours["share_of_bare"] == pytest.approx(ours["images_per_second"] / ours["bare_images_per_second"])
    assert 0 < ours["share_waiting_for_data"] < 1
    assert [row["ratio"] for row in said["rows"]] == [None, ours["images_per_second"]]
    assert (slow["name"], slow["threads"]) == ("slow", 1)


def test_a_tiny_pipeline_and_torchvision(tiny_data: Path) -> None:
    done = bench("pipeline", "--data", tiny_data, "--imgsz", 64, "--batch", 4, "--steps", 1, "--rounds", 1)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "Mosaics, 64 px, images in memory, 1 rounds of 1 batches of 4"
    assert [line.split()[0] for line in lines[3:]] == ["visionkit", "torchvision"]


def test_tiny_backbones() -> None:
    options = ("--imgsz", 64, "--batch", 2, "--steps", 1, "--rounds", 1, "--threads", 1)
    done = bench("backbones", "--backbones", "mobilenetv3-small,googlenet", *options, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert [turn["name"] for turn in said["turns"]] == ["mobilenetv3-small", "googlenet"]
    for turn in said["turns"]:  # of a single step the ratio of medians is the median of ratios
        times = turn["milliseconds"] / turn["torchvision_milliseconds"]
        assert turn["times_torchvision"] == pytest.approx(times)
    assert [row["median"] for row in said["rows"]["times_torchvision"]] == [
        turn["times_torchvision"] for turn in said["turns"]
    ]
    done = bench("backbones", "--backbones", "mobilenetv3-small", *options)
    lines = done.stdout.splitlines()
    assert lines[0] == "Forward and backward, 64 px, batch 2, 1 rounds of 1 steps"
    assert [" ".join(line.split()[1:-2]) for line in lines[2::3]] == [
        "visionkit ms", "torchvision ms", "visionkit / torchvision",
    ]  # fmt: skip


@pytest.mark.parametrize("name", PEERS)
def test_a_backbones_peer_has_its_maps(name: str) -> None:
    peer = PEERS[name]
    with torch.device("meta"):  # shapes without numbers
        ours = BACKBONES[name](**peer.ours)
        maps = peer.forward(
            torchvision.models.get_model(peer.name, weights=None, **peer.options), torch.zeros(1, 3, 64, 64)
        )
        expected = ours(torch.zeros(1, 3, 64, 64))
    assert [level_map.shape for level_map in maps] == [level_map.shape for level_map in expected]


TINY = ("--batch", 2, "--steps", 1, "--rounds", 1, "--threads", 1)


def test_tiny_training_of_detectors(tiny_data: Path) -> None:
    done = bench("detectors", "--data", tiny_data, "--imgsz", 64, *TINY, "--jobs", "training", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert [turn["name"] for turn in said["turns"]] == ["same network", "light recipe"]
    for turn in said["turns"]:  # of a single step the ratio of medians is the median of ratios
        assert turn["times_as_fast"] == pytest.approx(turn["torchvision_milliseconds"] / turn["milliseconds"])
    assert list(said["rows"]) == ["training"]
    rows = said["rows"]["training"]["times_as_fast"]
    assert [row["median"] for row in rows] == [turn["times_as_fast"] for turn in said["turns"]]


def test_tiny_training_of_segmenters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # In this process, which stays as it is: a command of its own would take longer to import than to measure.
    monkeypatch.setattr("visionkit.cli.process.tune_process", lambda: None)
    import measure_segmenter_training

    monkeypatch.setattr(measure_segmenter_training, "WARM_UP", 0)
    data = write_masks(tmp_path / "data", {"train": 2, "val": 1})
    said = measure_segmenter_training.measure(Task(data=str(data), imgsz=64, batch=2, steps=1), "light")
    assert said["times_as_fast"] == pytest.approx(said["torchvision_milliseconds"] / said["milliseconds"])
    assert measure_segmenter_training.SAME.auxiliary  # as torchvision's loop learns with


def test_tiny_inference_of_detectors(tiny_data: Path) -> None:
    done = bench("detectors", "--data", tiny_data, "--imgsz", 64, *TINY, "--jobs", "inference")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "Inference, 64 px, 1 rounds of 1 steps"
    # The network, threads; median, lowest and highest of one round.
    tables = zip(lines[2::3], lines[3::3], strict=True)
    medians = {" ".join(head.split()[1:-2]): float(row.split()[2]) for head, row in tables}
    assert list(medians)[:3] == ["torchvision ms", "visionkit ms", "times as fast"]
    times = medians["torchvision ms"] / medians["visionkit ms"]
    assert medians["times as fast"] == pytest.approx(times, abs=0.02)
    assert medians["its boxes found, fp32"] >= 0.99


def test_a_tiny_accuracy(tiny_data: Path, tmp_path: Path) -> None:
    peer = printing(AP=0.25, AP50=0.5, curve=[[1, 0.1], [2, 0.25]], minutes=3)
    done = bench(
        "accuracy", "--data", tiny_data, "--imgsz", 32, "--batch", 4, "--minutes", 0.01, "--seeds", "4", "--threads", 1,
        "--levels", "0.2,0.9", "--set", "workers=0", "--keep", tmp_path, "--peer", f"other={peer}", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    ours = said["turns"][0]
    assert 0 <= ours["test_AP"] <= 1
    assert 0 < ours["curve"][0][0] < ours["minutes"]
    assert [row["name"] for row in said["rows"]["AP"]] == ["visionkit", "other"]
    assert set(said["rows"]) == {"AP", "AP50"}  # of the test split one contestant says nothing
    assert said["reached"][1] == {
        "name": "other", "threads": 1, "seed": 4, "minutes": 3, "first_minute": {"0.2": 2, "0.9": None},
    }  # fmt: skip
    assert (tmp_path / "seed4-threads1" / "best.safetensors").is_file()


def test_a_tiny_evaluation_is_pycocotools_to_the_last_bit() -> None:
    size = ("--images", 30, "--classes", 5, "--objects", 150, "--detections", 900, "--rounds", 1)
    for task in ("bbox", "segm"):
        done = bench("evaluation", *size, "--task", task, "--json")
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["equal_numbers"] == 12
        assert [turn["name"] for turn in said["turns"]] == ["pycocotools", "visionkit"]
        for turn in said["turns"]:
            assert 0 < turn["evaluate_seconds"] < turn["files_to_numbers_seconds"]
        # A case that decides nothing would prove nothing.
        ap = float.fromhex(said["turns"][0]["numbers"][0])
        assert 0.05 < ap < 0.9
    done = bench("evaluation", *size)
    lines = done.stdout.splitlines()
    assert lines[0] == "COCO evaluation of boxes: 30 images, 5 classes, 150 objects, 900 detections, 1 rounds"
    assert lines[1] == "Numbers equal to the last bit: 12 of 12"

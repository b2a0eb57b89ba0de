"""The benchmark's arithmetic and the protocol of its contestants, with fake commands; and one tiny run of each kind."""

import json
import shlex
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchvision
from masks import write_masks

from visionkit.build import BACKBONES

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "bench"))

import runtime_benchmarks
import training_benchmarks
from backbone_peers import PEERS
from competition import modes, said_by_all, seeds
from contest import BenchError, Contestant, Turn, hold
from options import parser
from table import Row, first_minutes, summarise, table
from task import Task
from training_benchmarks import reached_table

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


def test_when_aps_were_reached_by_whom_at_how_many_threads() -> None:
    runs = [
        {"name": "ours", "threads": threads, "seed": 3, "minutes": 9.96, "first_minute": {"0.4": 2.5, "0.5": None}}
        for threads in (0, 2)
    ]
    assert reached_table(runs[:1], [0.4, 0.5]).splitlines() == [
        "First minute at AP               0.4     0.5     end",
        "ours, seed 3                     2.5       -    10.0",
    ]
    assert [line.split("  ")[0] for line in reached_table(runs, [0.4, 0.5]).splitlines()[1:]] == [
        "ours, seed 3, threads default", "ours, seed 3, threads 2",
    ]  # fmt: skip


def test_only_what_all_said_is_compared() -> None:
    said = [Turn(0, "a", 0, {"x": 1, "y": 2}), Turn(0, "b", 0, {"x": 1, "y": None})]
    assert said_by_all(said, ["x", "y", "z"]) == ["x"]


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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("training --rounds 0", "argument --rounds: must be at least 1, got 0"),
        ("pipeline --steps 0", "argument --steps: must be at least 1, got 0"),
        ("accuracy --batch -1", "argument --batch: must be at least 1, got -1"),
        ("backbones --threads 0", "argument --threads: must be at least 1, got 0"),
        ("coldstart --threads -1", "argument --threads: must be at least 0, got -1"),
        ("detectors --imgsz 0", "argument --imgsz: must be at least 1, got 0"),
        ("evaluation --images 0", "argument --images: must be at least 1, got 0"),
        ("accuracy --minutes 0", "argument --minutes: must be above 0, got 0"),
        ("serve --seconds inf", "argument --seconds: must be above 0, got inf"),
        ("training --rounds many", "argument --rounds: invalid whole_number value: 'many'"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(arguments: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(arguments.split())
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(f": error: {words}")


def test_seeds_are_whole_numbers_and_each_mode_is_taken_once() -> None:
    assert seeds(Namespace(seeds="0,12")) == [0, 12]
    for text in ("1.5", "-1", "nan"):
        with pytest.raises(BenchError) as error:
            seeds(Namespace(seeds=text))
        assert str(error.value) == f"--seeds takes whole numbers of at least 0, got {text!r}"
    assert modes(Namespace(modes="equal,default,equal", threads=3)) == [3, 0]


def test_a_peer_need_not_count_cpu_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    said = [Turn(0, "visionkit detect", 0, {"seconds": 2.0, "cpu_seconds": 3.0}), Turn(0, "it", 0, {"seconds": 4.0})]
    monkeypatch.setattr(runtime_benchmarks, "compete", lambda first, given, threads, keys: said)
    shown = runtime_benchmarks.coldstart(parser().parse_args(["coldstart"]))
    assert "visionkit detect / it" in shown
    assert "CPU seconds" not in shown


def test_why_there_are_no_test_scores_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said = [Turn(0, "visionkit", 2, {"AP": 0.5, "AP50": 0.8, "test_problem": "error: no split 'test'"})]
    monkeypatch.setattr(training_benchmarks, "compete", lambda first, given, threads, keys: said)
    shown = training_benchmarks.accuracy(parser().parse_args(["accuracy", "--seeds", "7"]))
    assert shown.splitlines()[-1] == "No test scores of visionkit: error: no split 'test'"
    assert "visionkit, seed 7" in shown


def test_a_recipe_and_processes_go_to_visionkit(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def compete(first: Any, *_: Any) -> list[Turn]:
        asked.extend(first)
        return [Turn(0, "visionkit", 2, {"AP": 0.5, "AP50": 0.8})]

    monkeypatch.setattr(training_benchmarks, "compete", compete)
    given = ["accuracy", "--seeds", "0", "--config", "own.yaml", "--processes", "2", "--set", "dropout=0.1"]
    training_benchmarks.accuracy(parser().parse_args(given))
    (ours,) = asked
    assert shlex.split(ours.command)[-7:] == ["--", "--config", "own.yaml", "--processes", "2", "--set", "dropout=0.1"]


@pytest.fixture
def untuned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts of the benchmark may be imported into this process, which stays as it is."""
    monkeypatch.setattr("visionkit.cli.process.tune_process", lambda: None)


@pytest.mark.usefixtures("untuned")
def test_the_bare_network_is_told_what_the_loop_tells_it() -> None:
    """A two-stage network draws its regions from the truth, or learns from others than in the loop."""
    import measure_training

    told: list[Any] = []

    class Told(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))

        def forward(self, images: torch.Tensor, **given: Any) -> torch.Tensor:
            told.append(given)
            return self.weight

        def loss(self, outputs: torch.Tensor, targets: Any) -> Any:
            return SimpleNamespace(total=outputs)

    run = SimpleNamespace(
        state=SimpleNamespace(model=Told()),
        device=torch.device("cpu"),
        config=SimpleNamespace(train=SimpleNamespace(amp=False)),
    )
    batch = SimpleNamespace(images=torch.zeros(1), targets=("truth",), proposals=("regions",))
    measure_training.bare_step(run, batch, 1)
    assert told == [{"targets": ("truth",), "proposals": ("regions",)}] * (measure_training.WARM_UP + 1)


def test_torchvisions_tiles_are_scaled_as_ours_are() -> None:
    import measure_pipeline_torchvision
    from torchvision import tv_tensors

    image = tv_tensors.Image(torch.full((3, 100, 400), 255, dtype=torch.uint8))
    boxes = tv_tensors.BoundingBoxes(torch.tensor([[0.0, 0, 400, 100]]), format="XYXY", canvas_size=(100, 400))
    items = [(image, {"boxes": boxes, "labels": torch.zeros(1, dtype=torch.int64)})]
    torch.manual_seed(0)
    for _ in range(10):
        canvas, *_ = measure_pipeline_torchvision.mosaic(items, 64, torch.nn.Identity())
        # The longer side becomes at most 1.25 * 64 = 80 px, the shorter a quarter of that: 20 rows of each quadrant.
        assert (canvas[0] == 255).sum(0).max() <= 2 * 20
        assert (canvas[0] == 255).any()


def test_equal_threads_hold_for_the_bare_script_too() -> None:
    from measure_coldstart import command_of

    graph, picture = Path("graph.onnx"), Path("picture.jpg")
    assert command_of("bare", graph, picture, 0)[-2:] == ["graph.onnx", "picture.jpg"]
    assert command_of("bare", graph, picture, 2)[-3:] == ["graph.onnx", "picture.jpg", "2"]


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


@pytest.mark.usefixtures("untuned")
def test_tiny_training_of_segmenters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # In this process: a command of its own would take longer to import than to measure.
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
        theirs, ours = said["turns"]
        assert 0 < theirs["evaluate_seconds"] < theirs["files_to_numbers_seconds"]
        assert min(ours["evaluate_seconds"], ours["files_to_numbers_seconds"]) > 0  # each in a process of its own
        # A case that decides nothing would prove nothing.
        ap = float.fromhex(said["turns"][0]["numbers"][0])
        assert 0.05 < ap < 0.9
    done = bench("evaluation", *size)
    lines = done.stdout.splitlines()
    assert lines[0] == "COCO evaluation of boxes: 30 images, 5 classes, 150 objects, 900 detections, 1 rounds"
    assert lines[1] == "Numbers equal to the last bit: 12 of 12"

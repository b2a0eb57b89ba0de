"""`--strategy`, `--unfreeze` and learning rates of groups: what each does to a run, what is said, what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TinyRun, tiny_settings
from torch import Tensor

import visionkit
from visionkit.api.strategy import compact, last_units
from visionkit.build import build_model, load_model
from visionkit.choices import Choices, read_config_file
from visionkit.classes import ClassTable
from visionkit.config import Recipe
from visionkit.engine.checkpoint import load_state, load_weights
from visionkit.errors import ConfigError, UsageError, VisionkitError
from visionkit.types import Unit


@pytest.fixture(scope="module")
def model() -> Any:
    return build_model(Recipe(), ClassTable((3, 8), ("red block", "blue block")))


def numbers_of(model: Any, beginning: str) -> list[int]:
    return [number for number, unit in enumerate(model.units) if unit.name.startswith(beginning)]


def planned(data: Path, **options: Any) -> list[str]:
    """What a dry run says."""
    said: list[str] = []
    visionkit.finetune(data, dry_run=True, say=said.append, **tiny_settings(**options))
    return said


def refusal(kind: type[VisionkitError], data: Path, **options: Any) -> str:
    with pytest.raises(kind) as error:
        visionkit.finetune(data, dry_run=True, **tiny_settings(**options))
    assert "\n" not in str(error.value)
    return str(error.value)


def trained(data: Path, folder: Path, **options: Any) -> tuple[Any, list[str], dict[str, Any]]:
    """A short run: its result, what it said, and the settings that it wrote down."""
    said: list[str] = []
    result = visionkit.finetune(data, out=folder / "run", say=said.append, **tiny_settings(imgsz=32, **options))
    assert result is not None
    return result, said, read_config_file(folder / "run" / "config.yaml")


def moved(before: Path, after: Path) -> set[str]:
    one, other = load_weights(before)[0], load_weights(after)[0]
    return {name for name in one if one[name].shape != other[name].shape or not torch.equal(one[name], other[name])}


# What each means ------------------------------------------------------------------------------------------------------


def test_head_trains_the_new_class_predictors_alone(
    tiny_run: TinyRun, other_data: Path, tmp_path: Path, model: Any
) -> None:
    result, said, config = trained(other_data, tmp_path, strategy="head", weights=tiny_run.result.best)
    learnt = {name.split(".")[0] + "." + name.split(".")[1] for name in moved(tiny_run.result.best, result.last)}
    assert learnt == {"head.class_predictors"}
    count = len(model.units)
    assert any(line.startswith(f"Frozen {count - 1} of {count} units") for line in said)
    # Written down whole: the same run again needs no strategy.
    assert (config["strategy"], config["freeze"]) == ("head", [compact(_without_class_predictors(model), model.units)])
    again = visionkit.finetune(config=tmp_path / "run" / "config.yaml", out=tmp_path / "again")
    assert again is not None
    assert again.last.read_bytes() == result.last.read_bytes()


def _without_class_predictors(model: Any) -> list[int]:
    last = numbers_of(model, "head.class_predictors")
    return [number for number in range(len(model.units)) if number not in last]


def test_freeze_holds_the_backbone_unless_freeze_says(tiny_run: TinyRun, tiny_data: Path) -> None:
    weights = tiny_run.result.best
    said = planned(tiny_data, strategy="freeze", weights=weights)
    assert any(line.startswith("Frozen 10 of ") for line in said)
    said = planned(tiny_data, strategy="freeze", freeze=4, weights=weights)
    assert any(line.startswith("Frozen 4 of ") for line in said)


def test_full_lets_everything_learn_and_what_was_loaded_slower(
    tiny_run: TinyRun, other_data: Path, tmp_path: Path
) -> None:
    result, said, config = trained(other_data, tmp_path, strategy="full", weights=tiny_run.result.best)
    assert result.frozen_sha256 == ""
    assert config["train.loaded_rate"] == 0.5
    rows = {line.split("  ")[1]: line.split()[-2] for line in said if line.startswith("  ")}
    # 0.01 of the tiny settings; the class predictors start fresh.
    assert (rows["fresh layers"], rows["everything else"]) == ("0.01", "0.005")
    groups = load_state(result.folder / "state.pt")["training"]["optimizer"]["param_groups"]
    assert {group["lr_factor"] for group in groups} == {1.0, 0.5}


def test_scratch_starts_from_random_weights(tiny_data: Path, tmp_path: Path) -> None:
    settings = tiny_settings(strategy="scratch")
    del settings["weights"]
    said: list[str] = []
    visionkit.finetune(tiny_data, dry_run=True, say=said.append, **settings)
    assert not any(line.startswith("Weights from") for line in said)


def test_where_nothing_starts_fresh_the_rows_of_classes_are_the_last_layers(model: Any) -> None:
    of_classes = frozenset(numbers_of(model, "head.class_predictors"))
    assert last_units(model.units, (), model.class_rows) == of_classes
    fresh = tuple(name for name in model.state_dict() if not name.startswith("backbone."))
    assert last_units(model.units, fresh, model.class_rows) == frozenset(range(10, len(model.units)))


def test_compact_specs() -> None:
    units = [Unit(name, (name,)) for name in ("backbone.a", "backbone.b", "neck.c", "head.d", "head.e")]
    assert compact([0, 1], units) == "backbone"
    assert compact([0], units) == "0-0"  # 0 alone would be the first none
    assert compact([0, 1, 2, 4], units) == "0-2,4-4"


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"strategy": "auto", "freeze": 4},
            "--strategy auto decides by itself what is held still, but --freeze 4 says otherwise; leave one of them "
            "out",
        ),
        (
            {"strategy": "full", "freeze": 4},
            "--strategy full holds nothing still, but --freeze 4 says otherwise; leave one of them out",
        ),
        (
            {"strategy": "head", "freeze": 4},
            "--strategy head holds all but the last layers still, but --freeze 4 says otherwise; leave one of them out",
        ),
        (
            {"strategy": "freeze", "freeze": "none"},
            "--strategy freeze holds units still, but --freeze none holds none; leave one of them out",
        ),
        (
            {"strategy": "full", "unfreeze": "all@5"},
            "--unfreeze all@5 names no frozen unit, it has nothing to thaw; name units that --freeze holds",
        ),
        (
            {"freeze": 10, "unfreeze": "all@3", "epochs": 2},
            "--unfreeze thaws at epoch 3, but the run has 2 epochs; name an earlier one, or train longer",
        ),
        (
            {"set": ["train.groups=[{match: bakbone}]"]},
            "rule 1 of train.groups matches no parameter, its pattern is 'bakbone'; name units or parameters, such as "
            "backbone.* or *.bias",
        ),
    ],
)
def test_what_contradicts_itself_or_means_nothing(
    options: dict[str, Any], message: str, tiny_run: TinyRun, tiny_data: Path
) -> None:
    assert refusal(UsageError, tiny_data, weights=tiny_run.result.best, **options) == message


def test_the_same_said_twice_is_no_contradiction(tiny_run: TinyRun, tiny_data: Path, model: Any) -> None:
    spec = compact(_without_class_predictors(model), model.units)
    planned(tiny_data, strategy="head", freeze=spec, weights=tiny_run.result.best)
    planned(tiny_data, strategy="full", freeze="none", weights=tiny_run.result.best)


@pytest.mark.parametrize("strategy", ["head", "freeze", "full"])
def test_random_weights_are_nothing_to_build_on(strategy: str, tiny_data: Path) -> None:
    assert refusal(UsageError, tiny_data, strategy=strategy) == (
        f"--strategy {strategy} builds on trained weights, and these are random; give some by --weights FILE, or use "
        "--strategy scratch"
    )


def test_scratch_with_weights_is_refused(tiny_run: TinyRun, tiny_data: Path) -> None:
    weights = tiny_run.result.best
    assert refusal(UsageError, tiny_data, strategy="scratch", weights=weights) == (
        f"--strategy scratch starts from random weights, but --weights {weights} names some; leave one of them out"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strategy": "half"}, "strategy = 'half': input should be 'none', 'auto', 'head', 'freeze', 'full' or "),
        ({"lr_backbone": 0}, "train.lr_backbone = 0: input should be greater than 0"),
        ({"set": ["train.layer_decay=1.5"]}, "train.layer_decay = 1.5: input should be less than or equal to 1"),
        ({"set": ["train.groups=[{lr: 1}]"]}, "train.groups.0.match = {'lr': 1}: field required"),
        ({"set": ["train.groups=[{match: a, rate: 1}]"]}, "train.groups.0.rate is not a setting"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], words: str, tiny_data: Path) -> None:
    assert words in refusal(ConfigError, tiny_data, **options)


# Rates ----------------------------------------------------------------------------------------------------------------


def test_the_table_of_rates_is_said_and_holds_in_the_optimizer(
    tiny_run: TinyRun, tiny_data: Path, tmp_path: Path
) -> None:
    groups = "train.groups=[{match: '*.bias', lr: 2}, {match: backbone.stem, lr: 0.5, weight_decay: 0.1}]"
    result, said, _ = trained(
        tiny_data, tmp_path, weights=tiny_run.result.best, lr_backbone=0.002, set=[groups], epochs=1
    )  # fmt: skip
    at = said.index("Learning rates, by the first rule that matches; norms and biases never decay:")
    rows = [line.split("  ") for line in said[at + 1 : at + 6]]
    assert [row[1].strip() for row in rows] == ["rule", "*.bias", "backbone.stem", "backbone", "everything else"]
    model = load_model(result.last).model
    counted = sum(int(line.split()[-4].replace(",", "")) for line in said[at + 2 : at + 6])
    assert counted == sum(p.numel() for p in model.parameters())
    saved = load_state(result.folder / "state.pt")["training"]["optimizer"]["param_groups"]
    assert {group["lr_factor"] for group in saved} == {2.0, 0.5, 0.2, 1.0}
    assert {group["weight_decay"] for group in saved if group["lr_factor"] == 0.5} == {0.1, 0.0}
    assert "Learning rates" in (result.folder / "log.txt").read_text()


def test_without_rates_of_their_own_no_table_is_said(tiny_data: Path) -> None:
    said = planned(tiny_data)
    assert not any(line.startswith("Learning rates") for line in said)


# Thawing --------------------------------------------------------------------------------------------------------------


def test_units_thaw_at_their_epochs_and_it_is_proven(tiny_run: TinyRun, tiny_data: Path, tmp_path: Path) -> None:
    events: list[Any] = []
    result, said, config = trained(
        tiny_data, tmp_path, weights=tiny_run.result.best, freeze=10, unfreeze="backbone.stage4@2,backbone.pool@3",
        epochs=3, listen=events.append,
    )  # fmt: skip
    assert config["unfreeze"] == ["backbone.stage4@2,backbone.pool@3"]
    assert "Thaws at the beginning of epoch 2: 1 unit, backbone.stage4" in said
    assert [(each.epoch, each.units) for each in result.thawed] == [(2, ("backbone.stage4",)), (3, ("backbone.pool",))]
    assert result.to_json()["thawed"][0]["epoch"] == 2
    json.dumps(result.to_json())
    log = (result.folder / "log.txt").read_text()
    for thawed in result.thawed:
        assert thawed in events
        assert thawed.sentence() in log
    # Before its epoch no unit moved, after it each did, and the other eight never.
    changed = {name for name in moved(tiny_run.result.best, result.last) if name.startswith("backbone.")}
    assert {name.split(".")[1] for name in changed} == {"stage4", "pool"}
    assert said[-1] == f"Frozen tensors unchanged: SHA-256 {result.frozen_sha256} before and after"


def test_all_that_thaws_leaves_nothing_frozen_to_the_end(tiny_run: TinyRun, tiny_data: Path, tmp_path: Path) -> None:
    result, said, _ = trained(
        tiny_data, tmp_path, weights=tiny_run.result.best, strategy="freeze", unfreeze="all@2"
    )  # fmt: skip
    assert result.frozen_sha256 == ""
    assert not any(line.startswith("Frozen tensors unchanged") for line in said)
    assert len(result.thawed[0].units) == 10


def test_weights_that_move_before_their_thaw_fail_the_run(tiny_run: TinyRun, tiny_data: Path, tmp_path: Path) -> None:
    from visionkit.engine import thawing

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thawing, "frozen_sha256", _another_each_time())
        with pytest.raises(VisionkitError, match="frozen units must keep their bytes, but they changed"):
            trained(tiny_data, tmp_path, weights=tiny_run.result.best, freeze=10, unfreeze="all@2")


def _another_each_time() -> Any:
    count = iter(range(100))
    return lambda model, frozen: str(next(count))


def test_fresh_layers_may_start_by_xavier_and_loaded_ones_stay(
    tiny_run: TinyRun, other_data: Path, tmp_path: Path
) -> None:
    def start(**options: Any) -> dict[str, Tensor]:
        """The weights before step 1."""
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        with pytest.raises(_EnoughError):
            visionkit.finetune(
                other_data, out=folder, listen=_stop, **tiny_settings(imgsz=32, weights=tiny_run.result.best, **options)
            )
        state: dict[str, Tensor] = load_state(folder / "state.pt")["training"]["model"]
        return state

    own, xavier = start(), start(set=["fresh_init=xavier"])
    differing = {name for name in own if not torch.equal(own[name], xavier[name])}
    assert differing == {f"head.class_predictors.{level}.weight" for level in range(3)}


class _EnoughError(Exception):
    pass


def _stop(event: Any) -> None:
    raise _EnoughError


def test_minutes_measure_what_thaws_later_as_if_it_learnt_already(
    tiny_run: TinyRun, tiny_data: Path, tmp_path: Path
) -> None:
    from visionkit.api.prepare import prepare
    from visionkit.api.time_budget import fix_epochs

    choices = Choices()
    flags = {"data": str(tiny_data), "weights": str(tiny_run.result.best), "imgsz": 32, "freeze": [10]}
    flags |= {"unfreeze": "all@2", "minutes": 0.02, "device": "cpu", "workers": 0, "train.batch": 4}
    choices.say(flags, "flag")
    run, _ = fix_epochs(prepare(choices, lambda line: None), choices, tmp_path, lambda line: None)
    # Measuring let go of a copy alone.
    assert run.state.thaws.done == 0
    assert not any(p.requires_grad for p in run.state.model.backbone.parameters())


def test_a_strategy_by_flag_wins_over_what_a_config_file_says_by_default(
    tiny_run: TinyRun, tiny_data: Path, tmp_path: Path
) -> None:
    _, _, config = trained(tiny_data, tmp_path, weights=tiny_run.result.best, epochs=1)
    assert (config["strategy"], config["freeze"], config["train.loaded_rate"]) == ("none", [], 1.0)
    for strategy, words in (("head", "Frozen "), ("full", "  everything else")):
        said: list[str] = []
        file = tmp_path / "run" / "config.yaml"
        visionkit.finetune(config=file, strategy=strategy, dry_run=True, say=said.append)
        (line,) = [line for line in said if line.startswith(words)]
    assert line.split()[-2] == "0.005"  # half of 0.01

"""Which rule decides how fast each parameter learns, and the table that says so."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import nn

from visionkit.engine.optim import build_optimizer, set_learning_rate
from visionkit.engine.parameter_groups import Rule, has_own_rates, parameter_rules, rule_table
from visionkit.engine.settings import TrainSettings
from visionkit.errors import UsageError
from visionkit.nn.freeze import freeze
from visionkit.types import Unit


class Net(nn.Module):
    """A backbone of two units with a pool between them, then a head of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 1, bias=False))
        self.head = nn.ModuleDict({"tower": nn.Conv2d(4, 4, 1), "classes": nn.Conv2d(4, 2, 1)})
        backbone = [Unit(f"backbone.{name}", (f"backbone.{i}",)) for i, name in enumerate(("stem", "pool", "last"))]
        self.units = (*backbone, *(Unit(f"head.{name}", (f"head.{name}",)) for name in self.head))


FRESH = ("head.classes.weight", "head.classes.bias")
NAMES = [name for name, _ in Net().named_parameters()]


def settings(**values: Any) -> TrainSettings:
    return TrainSettings.model_validate({"lr": 0.01, "weight_decay": 0.05, **values})


def factors(fresh: tuple[str, ...] = FRESH, **values: Any) -> dict[str, float]:
    return {name: rule.lr_factor for name, rule in parameter_rules(Net(), settings(**values), fresh).items()}


# Which rule -----------------------------------------------------------------------------------------------------------


def test_without_rules_all_parameters_have_the_last_one() -> None:
    rules = parameter_rules(Net(), settings(), FRESH)
    assert list(rules) == NAMES
    assert set(rules.values()) == {Rule("everything else", 1.0, 0.05)}
    assert not has_own_rates(settings())


def test_the_backbone_has_a_rate_of_its_own() -> None:
    # 0.002 of 0.01.
    assert factors(lr_backbone=0.002) == {name: 0.2 if name.startswith("backbone.") else 1.0 for name in NAMES}


def test_what_was_loaded_learns_slower_than_what_starts_fresh() -> None:
    assert factors(loaded_rate=0.1) == {name: 1.0 if name in FRESH else 0.1 for name in NAMES}
    # Where the backbone has a rate of its own, that is it.
    found = factors(loaded_rate=0.1, lr_backbone=0.002)
    assert found["backbone.0.weight"] == pytest.approx(0.2)
    assert found["head.tower.weight"] == pytest.approx(0.1)


def test_each_unit_of_the_backbone_learns_slower_than_the_one_behind_it() -> None:
    # Three units, the pool counts: the last is one step from the head, the first three.
    found = factors(layer_decay=0.5)
    assert found["backbone.2.weight"] == 0.5
    assert found["backbone.0.weight"] == found["backbone.0.bias"] == 0.125
    assert found["head.tower.weight"] == found["head.classes.weight"] == 1
    # Both: 0.2 * 0.5 ** 3.
    assert factors(layer_decay=0.5, lr_backbone=0.002)["backbone.0.weight"] == pytest.approx(0.025)


def test_the_first_pattern_that_matches_decides_by_unit_or_by_parameter() -> None:
    groups = [
        {"match": "*.bias", "lr": 2},
        {"match": "backbone.stem", "lr": 0.5, "weight_decay": 0.1},
        {"match": "head", "lr": 3},
    ]
    rules = parameter_rules(Net(), settings(groups=groups, lr_backbone=0.001), FRESH)
    assert {name: (rule.name, rule.lr_factor, rule.weight_decay) for name, rule in rules.items()} == {
        "backbone.0.weight": ("backbone.stem", 0.5, 0.1),
        "backbone.0.bias": ("*.bias", 2, 0.05),
        "backbone.2.weight": ("backbone", 0.1, 0.05),
        "head.tower.weight": ("head", 3, 0.05),
        "head.tower.bias": ("*.bias", 2, 0.05),
        "head.classes.weight": ("head", 3, 0.05),
        "head.classes.bias": ("*.bias", 2, 0.05),
    }


@hypothesis_settings(max_examples=50)
@given(
    patterns=st.lists(st.sampled_from(["*", "backbone*", "*.bias", "head", "*.weight", "backbone.stem"]), max_size=3),
    decay=st.sampled_from([1.0, 0.9]),
    loaded=st.sampled_from([1.0, 0.1]),
)
def test_law_every_parameter_is_in_one_group_at_the_rate_of_its_rule(
    patterns: list[str], decay: float, loaded: float
) -> None:
    groups = [{"match": pattern, "lr": 2.0 + i} for i, pattern in enumerate(patterns)]
    model, told = Net(), settings(groups=groups, layer_decay=decay, loaded_rate=loaded, optimizer="sgd")
    try:
        rules = parameter_rules(model, told, FRESH)
    except UsageError:
        return  # a pattern with nothing left
    optimizer = build_optimizer(model, told, rules)
    set_learning_rate(optimizer, 0.004)
    found = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(NAMES)
    assert found == {id(p): 0.004 * rules[name].lr_factor for name, p in model.named_parameters()}


def test_a_shared_parameter_has_the_rule_of_its_first_name() -> None:
    model = Net()
    model.head["tower"].weight = model.backbone[2].weight
    rules = parameter_rules(model, settings(lr_backbone=0.001), FRESH)
    assert rules["backbone.2.weight"].name == "backbone"
    assert "head.tower.weight" not in rules


# Refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (
            ["backbone*", "bakbone.*"],
            "rule 2 of train.groups matches no parameter, its pattern is 'bakbone.*'; name units or parameters, such "
            "as backbone.* or *.bias",
        ),
        (
            ["*", "*.bias"],
            "rule 2 of train.groups, '*.bias', has nothing left, since the first rule that matches decides; put it "
            "before the more general one",
        ),
    ],
)
def test_a_rule_that_decides_nothing_is_refused_with_the_units(patterns: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parameter_rules(Net(), settings(groups=[{"match": pattern} for pattern in patterns]))
    assert str(caught.value) == message
    assert caught.value.__notes__ == [
        "  0  backbone.stem\n  1  backbone.pool\n  2  backbone.last\n  3  head.tower\n  4  head.classes"
    ]


# The table ------------------------------------------------------------------------------------------------------------


def test_the_table_covers_every_tensor_and_says_what_is_frozen() -> None:
    model = Net()
    freeze(model, model.units, (0,))
    told = settings(groups=[{"match": "*.bias", "lr": 2, "weight_decay": 0}], lr_backbone=0.001, loaded_rate=0.5)
    lines = rule_table(model, parameter_rules(model, told, FRESH), told)
    # Biases: 4, 4 and 2. Backbone: weights of 12 and 16, of which the first is frozen, as is its bias. Fresh: 4 * 2.
    # Else: the tower's 16, loaded, at half of 0.01.
    assert lines == [
        "Learning rates, by the first rule that matches; norms and biases never decay:",
        "  rule             tensors  parameters  frozen     lr  decay",
        "  *.bias                 3          10       1   0.02      0",
        "  backbone               2          28       1  0.001   0.05",
        "  fresh layers           1           8       0   0.01   0.05",
        "  everything else        1          16       0  0.005   0.05",
    ]


def test_the_last_rule_is_in_the_table_though_nothing_is_left_for_it() -> None:
    model, told = Net(), settings(groups=[{"match": "*", "lr": 0.5}])
    assert rule_table(model, parameter_rules(model, told), told)[-1].split() == [
        *("everything", "else", "0", "0", "0", "0.01", "0.05")
    ]


def test_layer_decay_has_a_row_a_unit_that_learns() -> None:
    model, told = Net(), settings(layer_decay=0.5)
    rows = [line.split() for line in rule_table(model, parameter_rules(model, told), told)[2:]]
    assert [row[0] for row in rows] == ["backbone.stem", "backbone.last", "everything"]
    assert [row[-2] for row in rows] == ["0.00125", "0.005", "0.01"]


def test_norms_and_biases_never_decay_whatever_a_rule_says() -> None:
    model, told = Net(), settings(groups=[{"match": "*", "weight_decay": 0.3}], optimizer="adamw")
    groups = build_optimizer(model, told, parameter_rules(model, told)).param_groups
    assert [(group["weight_decay"], {p.ndim for p in group["params"]}) for group in groups] == [(0.3, {4}), (0.0, {1})]
    assert isinstance(groups[0]["params"][0], torch.nn.Parameter)

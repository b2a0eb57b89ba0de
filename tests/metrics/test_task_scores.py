"""Every task has its scores, and the training loop finds the one to be maximised."""

from dataclasses import fields
from typing import get_args

import numpy as np
import pytest
from torch import nn

from visionkit.classes import ClassTable
from visionkit.engine.curves import CURVES
from visionkit.engine.settings import TrainSettings
from visionkit.engine.train import TrainingState, _out_of_patience
from visionkit.metrics.classification import classification_scores
from visionkit.metrics.task_scores import SCORE_NAMES, TASKS, scores_by_name
from visionkit.result import Task


def test_every_task_has_scores_that_its_record_has() -> None:
    assert set(SCORE_NAMES) == set(TASKS.values()) == set(get_args(Task))
    for record, task in TASKS.items():
        assert set(SCORE_NAMES[task]) <= {field.name for field in fields(record)}
    metrics = [names[0] for names in SCORE_NAMES.values()]
    assert set(CURVES) == set(metrics)
    for metric in metrics:  # a history says by its metric whose it is
        assert sum(metric in names for names in SCORE_NAMES.values()) == 1
        assert set(CURVES[metric]) <= {name for names in SCORE_NAMES.values() for name in names}


def test_the_metric_comes_first() -> None:
    scores = classification_scores(np.array([0, 1]), np.eye(2), ClassTable((1, 2), ("a", "b")))
    assert next(iter(scores_by_name(scores).items())) == ("accuracy", 1.0)
    assert scores_by_name(scores)["top5"] is None


class Classifies(nn.Linear):
    task: Task = "classify"


@pytest.fixture
def state() -> TrainingState:
    state = TrainingState.begin(Classifies(1, 1), TrainSettings(), 1)
    # Not evaluated in epoch 3; the best accuracy is that of epoch 2, the first of two.
    accuracies = (0.5, 0.75, None, 0.75, 0.7)
    state.history = [{"epoch": i, "accuracy": accuracy} for i, accuracy in enumerate(accuracies, 1)]
    return state


def test_the_best_epoch_is_the_first_of_the_highest_accuracy(state: TrainingState) -> None:
    assert state.metric == "accuracy"
    assert state.best == {"epoch": 2, "accuracy": 0.75}


@pytest.mark.parametrize(("patience", "stops"), [(0, False), (2, True), (3, False)])
def test_patience_counts_evaluations_without_a_better_accuracy(
    state: TrainingState, patience: int, stops: bool
) -> None:
    assert _out_of_patience(state, patience) == stops  # epochs 4 and 5

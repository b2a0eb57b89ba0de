"""The learning rate: up, and down in one way or another."""

import itertools
import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionkit.engine.schedule import SCHEDULES, cosine_with_warmup, one_cycle
from visionkit.engine.settings import ScheduleName, TrainSettings
from visionkit.engine.steps import learning_rate


def test_warmup_by_hand() -> None:
    # Four steps up: 1/4, 2/4, 3/4, 4/4; never 0, or the first step would be for nothing.
    shares = [cosine_with_warmup(step, total=20, warmup=4, final=0) for step in range(4)]
    assert shares == [0.25, 0.5, 0.75, 1]


def test_cosine_by_hand() -> None:
    # From step 2 on, 12 steps from 1 to 0.2. A third down the cosine is 1/2: 0.2 + 0.8 (1 + 1/2) / 2 = 0.8.
    shares = [cosine_with_warmup(step, total=14, warmup=2, final=0.2) for step in (2, 6, 8, 10, 14)]
    assert shares == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])


def test_without_warmup_it_starts_at_the_top() -> None:
    assert cosine_with_warmup(0, total=10, warmup=0, final=0) == 1


def test_a_step_beyond_the_end_stays_at_the_end() -> None:
    assert cosine_with_warmup(11, total=10, warmup=0, final=0.1) == pytest.approx(0.1)


@pytest.mark.parametrize(("total", "warmup"), [(1, 0), (1, 1), (3, 3)])
def test_runs_too_short_for_a_cosine_are_finite(total: int, warmup: int) -> None:
    shares = [cosine_with_warmup(step, total=total, warmup=warmup, final=0.02) for step in range(total)]
    assert all(0 < share <= 1 for share in shares)


@given(total=st.integers(1, 300), warmup=st.integers(0, 60), final=st.floats(0, 1))
def test_law_rises_then_falls_between_final_and_1(total: int, warmup: int, final: float) -> None:
    warmup = min(warmup, total)
    shares = [cosine_with_warmup(step, total=total, warmup=warmup, final=final) for step in range(total)]
    rise, fall = shares[:warmup], shares[warmup:]
    assert rise == sorted(rise)
    assert all(after <= before + 1e-12 for before, after in itertools.pairwise(fall))
    assert all(0 < share <= 1 for share in rise)
    assert all(final - 1e-12 <= share <= 1 and math.isfinite(share) for share in fall)


# By name --------------------------------------------------------------------------------------------------------------


def test_every_name_is_a_schedule() -> None:
    assert set(SCHEDULES) == set(get_args(ScheduleName))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", [0.5, 1, 1, 1, 1, 1, 1, 1]),
        # Down by 0.2 at half of 8 steps and again at three quarters: 1, 0.2, 0.04.
        ("step", [0.5, 1, 1, 1, 0.2, 0.2, 0.04, 0.04]),
    ],
)
def test_schedule_by_hand(name: str, expected: list[float]) -> None:
    shares = [SCHEDULES[name](step, total=8, warmup=2, final=0.04) for step in range(8)]
    assert shares == pytest.approx(expected)


def test_one_cycle_by_hand() -> None:
    # 20 steps: 6 up from 1/25, of which 3 are half way, 0.04 + 0.96 / 2; 14 down to 0.2, 7 half way, 0.2 + 0.8 / 2.
    shares = [one_cycle(step, total=20, warmup=5, final=0.2) for step in (0, 3, 6, 13, 20, 21)]
    assert shares == pytest.approx([0.04, 0.52, 1, 0.6, 0.2, 0.2])


@pytest.mark.parametrize("name", SCHEDULES)
@given(total=st.integers(1, 300), final=st.floats(1e-6, 1))
def test_law_every_share_is_above_0_and_1_is_reached_at_most(name: str, total: int, final: float) -> None:
    shares = [SCHEDULES[name](step, total=total, warmup=total // 5, final=final) for step in range(total)]
    assert all(0 < share <= 1 + 1e-12 for share in shares)
    assert len(shares) < 20 or max(shares) > 0.97
    assert name == "constant" or total < 20 or shares[-1] <= max(final, 1 / 25) + 0.05


@pytest.mark.parametrize("name", get_args(ScheduleName))
def test_the_loop_takes_the_schedule_of_the_settings(name: ScheduleName) -> None:
    settings = TrainSettings(epochs=10, lr=0.5, warmup_epochs=1, final_lr=0.1, schedule=name)
    rates = [learning_rate(step, 100, settings) for step in (0, 20, 60, 99)]
    schedule = SCHEDULES[name]
    assert rates == [0.5 * schedule(step, total=100, warmup=10, final=0.1) for step in (0, 20, 60, 99)]

"""The learning rate: up in a line, down in a cosine."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionkit.engine.schedule import cosine_with_warmup


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

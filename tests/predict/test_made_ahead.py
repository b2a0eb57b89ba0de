"""Items made ahead are the same in the same order, and one at most is made before it is asked for."""

import threading
from collections.abc import Iterator

import pytest

from visionkit.predict.made_ahead import made_ahead


def test_nothing_and_one() -> None:
    assert list(made_ahead([])) == []
    assert list(made_ahead(iter("a"))) == ["a"]


def test_the_next_is_made_while_one_is_used() -> None:
    made = [threading.Event() for _ in range(4)]

    def items() -> Iterator[int]:
        for number, event in enumerate(made):
            event.set()
            yield number

    coming = made_ahead(items())
    assert not made[0].is_set()  # not before the first is asked for
    for number in range(3):
        assert next(coming) == number
        assert made[number + 1].wait(10)
        assert [event.is_set() for event in made] == [place <= number + 1 for place in range(4)]
    assert list(coming) == [3]


def test_what_making_one_raises_comes_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("no second")

    coming = made_ahead(items())
    assert next(coming) == 1
    with pytest.raises(ValueError, match="no second"):
        next(coming)


def test_one_that_is_given_up_leaves_no_thread() -> None:
    coming = made_ahead(iter(range(9)))
    assert next(coming) == 0
    coming.close()
    assert not any(thread.name.startswith("made-ahead") for thread in threading.enumerate())

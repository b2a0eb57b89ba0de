"""The newest of what comes as time passes."""

import threading

import pytest

from visionkit.predict.newest import newest


def test_what_came_in_the_meantime_is_dropped_but_for_the_newest():
    taken = threading.Event()
    all_there = threading.Event()

    def items():
        yield 0
        taken.wait(10)  # until 0 is at work
        yield from (1, 2, 3)
        all_there.set()

    stream = newest(items())
    assert next(stream) == 0
    taken.set()
    assert all_there.wait(10)
    assert list(stream) == [3]


def test_each_one_comes_where_someone_waits_for_it():
    wanted = threading.Semaphore(0)

    def items():
        for number in range(5):
            wanted.acquire()
            yield number

    seen = []
    wanted.release()
    for number in newest(items()):
        seen.append(number)
        wanted.release()
    assert seen == [0, 1, 2, 3, 4]


def test_an_error_comes_behind_the_last_item():
    def items():
        yield 0
        raise KeyError("unplugged")

    stream = newest(items())
    assert next(stream) == 0
    with pytest.raises(KeyError, match="unplugged"):
        next(stream)


def test_no_item():
    assert list(newest(i for i in ())) == []


def test_closing_gives_the_source_back():
    closed = threading.Event()

    def items():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    stream = newest(items())
    next(stream)
    stream.close()
    assert closed.wait(10)

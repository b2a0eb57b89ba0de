"""Pictures of many askers through one model: together, never mixed up, and refused rather than piled up."""

import ctypes
import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn")

from model_server import BLUE, BOUNDARY, GREEN, RED, SIDE, BlockFinder, blocks, form, png, serving

from visionkit.errors import DataError, UsageError
from visionkit.predict.tiling import Tiling
from visionkit.serve import batching as batching_module
from visionkit.serve import memory
from visionkit.serve.batching import Asked, Batcher, _Room, warm_up
from visionkit.serve.limits import Limits
from visionkit.serve.memory import give_back
from visionkit.serve.refusals import RefusedError

PIXELS = SIDE * SIDE
FILE = png(blocks(((8, 16, 24, 40), RED)))


def resident_megabytes() -> float | None:
    """What this process holds, where there is glibc, and /proc to ask."""
    statm = Path("/proc/self/statm")
    if not statm.exists() or not hasattr(ctypes.CDLL(None), "malloc_trim"):
        return None
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def batching(backend: BlockFinder, tiling: Tiling | None = None, **limits: Any) -> Iterator[Batcher]:
    batcher = Batcher(backend, Limits(**limits), tiling)
    batcher.start()
    try:
        yield batcher
    finally:
        backend.gate.set()
        batcher.stop()


def until(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def busy(batcher: Batcher, backend: BlockFinder) -> Any:
    """Closes the gate and sends a picture that the model is then stuck with."""
    backend.gate.clear()
    first = batcher.submit(FILE, "first", PIXELS, Asked())
    assert backend.reached.wait(10)
    return first


def test_pictures_that_come_together_are_looked_at_together() -> None:
    backend = BlockFinder()
    with batching(backend, batch=4, gather_seconds=0.5) as batcher:
        first = busy(batcher, backend)
        others = [batcher.submit(FILE, f"{i}", PIXELS, Asked()) for i in range(5)]
        until(batcher._waiting.empty)
        backend.gate.set()
        names = [answer.result(10).path for answer in (first, *others)]
    assert names == ["first", "0", "1", "2", "3", "4"]
    assert backend.batches == [1, 4, 1]
    assert batcher.counts == {"under_way": 0, "answered": 6, "batches": 3}


def test_each_gets_the_answer_to_its_own_picture() -> None:
    # Block i is 4 + i wide and 40 - i high, at (i, 2 i); odd ones are blue. Nobody else has that box.
    backend = BlockFinder(wait=0.002)
    boxes = [(i, 2 * i, 4 + 2 * i, 40 + i) for i in range(20)]
    files = [png(blocks((box, BLUE if i % 2 else RED))) for i, box in enumerate(boxes)]
    with batching(backend) as batcher, ThreadPoolExecutor(16) as askers:

        def ask(i: int) -> Any:
            conf = 0.25 if i % 3 else 0.05
            return batcher.submit(files[i % 20], str(i), PIXELS, Asked(conf)).result(30)

        results = list(askers.map(ask, range(60)))
    for i, result in enumerate(results):
        expected = [tuple(boxes[i % 20]), *([] if i % 3 else [(0, 0, 32, 32)])]
        assert [tuple(box) for box in result.boxes.tolist()] == expected
        assert result.labels[0] == i % 2
        assert result.path == str(i)
    assert max(backend.batches) > 1


def test_a_picture_that_is_alone_does_not_wait() -> None:
    with batching(BlockFinder(), gather_seconds=5) as batcher:
        start = time.monotonic()
        batcher.submit(FILE, "alone", PIXELS, Asked()).result(10)
        assert time.monotonic() - start < 2


def test_a_large_picture_is_looked_at_in_tiles() -> None:
    backend = BlockFinder()
    large = png(blocks(((72, 16, 88, 40), RED), side=2 * SIDE))
    with batching(backend, Tiling(SIDE, 0.0)) as batcher:
        result = batcher.submit(large, "large", 4 * PIXELS, Asked()).result(10)
        # 128 px are two tiles of 64 each way, together, and then the whole.
        assert backend.batches == [4, 1]
        assert result.boxes.tolist() == [[72, 16, 88, 40]]
        batcher.submit(FILE, "small", PIXELS, Asked()).result(10)
        assert len(backend.batches) == 3


def test_pictures_in_tiles_are_answered_one_after_another() -> None:
    backend = BlockFinder()
    large = png(blocks(((72, 16, 88, 40), RED), side=2 * SIDE))
    with batching(backend, Tiling(SIDE, 0.0), gather_seconds=0.5) as batcher:
        busy(batcher, backend)
        batches_at: list[int] = []
        answers = [batcher.submit(file, "p", 4 * PIXELS, Asked()) for file in (large, FILE, large, FILE, large)]
        for answer in answers:
            answer.add_done_callback(lambda _: batches_at.append(len(backend.batches)))
        until(lambda: batcher._decoded.qsize() == 5)
        backend.gate.set()
        assert [len(answer.result(10)) for answer in answers] == [1] * 5
    # After the first picture of all, the four tiles and the whole of each large one; the small ones are together.
    assert backend.batches == [1, 4, 1, 2, 4, 1, 4, 1]
    assert batches_at == [3, 4, 4, 6, 8]


def test_a_bad_picture_spoils_nobody_else() -> None:
    backend = BlockFinder()
    green = png(blocks(((8, 16, 24, 40), GREEN)))
    with batching(backend, gather_seconds=0.5) as batcher:
        first = busy(batcher, backend)
        answers = [batcher.submit(file, "p", PIXELS, Asked()) for file in (FILE, green, FILE, FILE[:-9])]
        until(batcher._waiting.empty)
        backend.gate.set()
        assert len(first.result(10)) == len(answers[0].result(10)) == len(answers[2].result(10)) == 1
        assert isinstance(answers[1].exception(10), RuntimeError)
        assert isinstance(answers[3].exception(10), DataError)
    # The three whole ones as a batch, which failed, and one by one.
    assert backend.batches == [1, 3, 1, 1, 1]


def test_more_than_may_wait_are_refused() -> None:
    backend = BlockFinder()
    with batching(backend, queue=3, batch=1) as batcher:
        busy(batcher, backend)
        # One is decoded and waits for the model, one waits to be handed on, three wait to be decoded.
        answers = [batcher.submit(FILE, "p", PIXELS, Asked()) for _ in range(2)]
        until(batcher._waiting.empty)
        answers += [batcher.submit(FILE, "p", PIXELS, Asked()) for _ in range(3)]
        with pytest.raises(RefusedError, match=r"^as many pictures wait as may, 3; come again$") as error:
            batcher.submit(FILE, "p", PIXELS, Asked())
        assert (error.value.status, error.value.retry_after) == (503, 1)
        backend.gate.set()
        assert all(len(answer.result(10)) == 1 for answer in answers)


def test_when_to_come_again_follows_the_speed() -> None:
    backend = BlockFinder()
    with batching(backend, queue=10, batch=1) as batcher:
        busy(batcher, backend)
        for _ in range(2 + 10):
            until(lambda: batcher._waiting.qsize() < 10)
            batcher.submit(FILE, "p", PIXELS, Asked())
        until(lambda: batcher._waiting.qsize() == 10)
        batcher._seconds_a_picture = 1.5
        # 10 wait, 1.5 s each: half of them are through after 7.5 s.
        with pytest.raises(RefusedError) as error:
            batcher.submit(FILE, "p", PIXELS, Asked())
        assert error.value.retry_after == 8


def test_who_gave_up_is_not_looked_at() -> None:
    backend = BlockFinder()
    with batching(backend, batch=1) as batcher:
        busy(batcher, backend)
        answers = [batcher.submit(FILE, "p", PIXELS, Asked()) for _ in range(4)]
        until(lambda: batcher._waiting.qsize() == 2)
        assert answers[3].cancel()
        backend.gate.set()
        assert len(answers[2].result(10)) == 1
    assert len(backend.batches) == 4
    assert batcher.counts["under_way"] == 0


def test_who_gave_up_after_decoding_is_not_looked_at_either() -> None:
    backend = BlockFinder()
    with batching(backend, gather_seconds=0.5) as batcher:
        first = busy(batcher, backend)
        answers = [batcher.submit(FILE, "p", PIXELS, Asked()) for _ in range(3)]
        until(lambda: batcher._decoded.qsize() == 3)
        assert answers[1].cancel()
        assert not first.cancel()  # it has begun
        backend.gate.set()
        assert [len(answer.result(10)) for answer in (first, answers[0], answers[2])] == [1] * 3
    assert sum(backend.batches) == 3
    assert batcher.counts["under_way"] == 0
    assert batcher._room._taken == 0


def test_who_gave_up_while_it_was_decoded_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    decode = batching_module.decode_image
    begun, gate = threading.Event(), threading.Event()

    def slowly(data: bytes, name: str) -> Any:
        begun.set()
        gate.wait()
        return decode(data, name)

    monkeypatch.setattr(batching_module, "decode_image", slowly)
    backend = BlockFinder()
    with batching(backend) as batcher:
        for file in (FILE, FILE[:-9]):
            begun.clear()
            gate.clear()
            answer = batcher.submit(file, "p", PIXELS, Asked())
            assert begun.wait(10)
            gave_up = answer.cancel()
            gate.set()
            assert gave_up
        assert len(batcher.submit(FILE, "p", PIXELS, Asked()).result(10)) == 1
    assert backend.batches == [1]
    assert batcher._room._taken == 0


def test_who_hung_up_is_not_looked_at() -> None:
    backend = BlockFinder()
    with serving(backend, batch=1) as client, ThreadPoolExecutor(1) as asker:
        backend.gate.clear()
        answer = asker.submit(client.upload, FILE)
        assert backend.reached.wait(10)
        body = form({"image": ("photo.png", FILE)})
        head = f"POST /v1/detect HTTP/1.1\r\nHost: here\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        with socket.create_connection((client.host, client.port), timeout=10) as connection:
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            until(lambda: client.get("/healthz").json["under_way"] == 2)
        try:
            until(lambda: client.get("/healthz").json["under_way"] == 1)
        finally:
            backend.gate.set()
        assert answer.result(10).status == 200
    assert backend.batches == [1]


def test_the_end_answers_all_that_were_taken() -> None:
    backend = BlockFinder(wait=0.01)
    batcher = Batcher(backend, Limits(batch=2))
    batcher.start()
    answers = [batcher.submit(FILE, "p", PIXELS, Asked()) for _ in range(12)]
    batcher.stop()
    assert all(answer.done() and len(answer.result()) == 1 for answer in answers)
    assert not batcher.alive
    with pytest.raises(RefusedError, match=r"^the server is ending and takes no more pictures; come again$"):
        batcher.submit(FILE, "p", PIXELS, Asked())


def test_decoded_pictures_have_room_together() -> None:
    room = _Room(100)
    room.take(300)  # alone it always fits
    taken: list[int] = []
    thread = threading.Thread(target=lambda: (room.take(60), taken.append(60)))
    thread.start()
    time.sleep(0.05)
    assert taken == []
    room.give(300)
    thread.join(10)
    assert taken == [60]
    room.take(40)  # 60 + 40 are 100


def test_a_model_is_warmed_up() -> None:
    backend = BlockFinder()
    warm_up(backend)
    assert backend.batches == [1]


@pytest.mark.parametrize("value", [0, math.nan])
def test_limits_are_above_nothing(value: float) -> None:
    words = f"^answer_seconds of a server must be above 0, got {value}; choose a larger value$"
    with pytest.raises(UsageError, match=words):
        Limits(answer_seconds=value)


def test_a_queue_that_is_full_is_503_over_http() -> None:
    backend = BlockFinder()
    with serving(backend, queue=1, batch=1) as client, ThreadPoolExecutor(6) as askers:
        backend.gate.clear()
        answers = [askers.submit(client.upload, FILE) for _ in range(6)]
        until(lambda: sum(answer.done() for answer in answers) >= 1)
        time.sleep(0.1)
        backend.gate.set()
        said = [answer.result(10) for answer in answers]
    assert {answer.status for answer in said} == {200, 503}
    refused = next(answer for answer in said if answer.status == 503)
    assert refused.headers["Retry-After"] == "1"
    assert refused.error == "busy: as many pictures wait as may, 1; come again"


@pytest.mark.skipif(resident_megabytes() is None, reason="this system does not tell what a process holds")
def test_memory_between_what_is_in_use_is_given_back() -> None:
    blocks_of_3_kb = [bytes(3000) for _ in range(60_000)]  # 180 MB
    kept = blocks_of_3_kb[::50]
    del blocks_of_3_kb
    before = resident_megabytes()
    give_back()
    after = resident_megabytes()
    assert before is not None
    assert after is not None
    assert before - after > 100
    assert len(kept) == 1200


def test_it_is_given_back_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[float] = []
    monkeypatch.setattr(memory, "SECONDS", 0.01)
    monkeypatch.setattr(memory, "give_back", lambda: times.append(time.monotonic()))
    with serving(BlockFinder()):
        until(lambda: len(times) > 2)

"""Pictures of concurrent requests on their way through one model: read by one thread, looked at by another, several at
once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, Full, Queue
from threading import Condition, Lock, Thread
from time import monotonic, perf_counter
from typing import NamedTuple

import numpy as np

from visionkit.imaging.letterbox import PADDING_GREY
from visionkit.imaging.reader import decode_image
from visionkit.predict.backend import Backend
from visionkit.predict.detect import LoadedImage, detect_loaded
from visionkit.predict.tiling import Tiling
from visionkit.result import Result
from visionkit.serve.limits import Limits
from visionkit.serve.refusals import RefusedError

LONGEST_RETRY = 60
"""Seconds; whoever is refused is asked to come again within them."""


class Asked(NamedTuple):
    """What a request wants of the model. Pictures that want the same are looked at together."""

    conf: float = 0.25
    iou: float | None = None
    max_det: int = 300
    classes: tuple[str, ...] | None = None


@dataclass(slots=True, eq=False)
class _Picture:
    """A picture on its way. Its answer runs while the model looks at it, and can be cancelled until then."""

    data: bytes
    name: str
    pixels: int
    asked: Asked
    answer: Future[Result]
    image: LoadedImage | None = None


class Batcher:
    """One model for many askers.

    One thread decodes while the other runs the model. A picture that is alone is not kept waiting; where more are on
    their way, the model waits for them a little. If a batch fails, its pictures are tried one by one: nobody gets an
    error for another's picture. Whose answer is cancelled before the model looks at it, is left out.

    Args:
        tiling: how larger pictures are cut; None sees each whole.
    """

    def __init__(self, backend: Backend, limits: Limits, tiling: Tiling | None = None) -> None:
        self._backend = backend
        self._limits = limits
        self._tiling = tiling
        self._waiting: Queue[_Picture | None] = Queue(limits.queue)
        self._decoded: Queue[_Picture | None] = Queue(limits.batch)
        self._room = _Room(limits.decoded_pixels)
        self._lock = Lock()
        self._open = False
        self._under_way = 0
        self._answered = 0
        self._batches = 0
        self._seconds_a_picture = 0.0
        self._threads = [Thread(target=work, daemon=True) for work in (self._decode_all, self._look_at_all)]

    def start(self) -> None:
        """Take pictures from now on."""
        self._open = True
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Take no more, and return when all that were taken are answered."""
        with self._lock:
            self._open = False
        self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    @property
    def alive(self) -> bool:
        """Whether pictures are taken and both threads run."""
        return self._open and all(thread.is_alive() for thread in self._threads)

    @property
    def counts(self) -> dict[str, int]:
        """How many pictures wait or are looked at, how many were answered, and in how many batches."""
        return {"under_way": self._under_way, "answered": self._answered, "batches": self._batches}

    def submit(self, data: bytes, name: str, pixels: int, asked: Asked) -> Future[Result]:
        """The answer to come for a picture. It holds what `decode_image` or the model raises, if they do; it runs while
        the model looks at the picture, and until then whoever no longer wants it may cancel it.

        Args:
            data: a whole image file.
            name: what the result and errors call it.
            pixels: how many it has by its header.

        Raises:
            RefusedError: as many wait as may, or the server is about to end.
        """
        picture = _Picture(data, name, pixels, asked, Future())
        with self._lock:
            if not self._open:
                raise RefusedError("busy", "the server is ending and takes no more pictures; come again", retry_after=5)
            try:
                self._waiting.put_nowait(picture)
            except Full:
                raise RefusedError(
                    "busy",
                    f"as many pictures wait as may, {self._limits.queue}; come again",
                    retry_after=self._seconds_until_room(),
                ) from None
            self._under_way += 1
        picture.answer.add_done_callback(lambda _: self._done(picture))
        return picture.answer

    def _seconds_until_room(self) -> int:
        """How long half of those that wait will take, about; whole seconds."""
        return min(LONGEST_RETRY, math.ceil(self._waiting.qsize() * self._seconds_a_picture / 2) or 1)

    def _done(self, picture: _Picture) -> None:
        picture.data = b""
        with self._lock:
            self._under_way -= 1
            self._answered += not picture.answer.cancelled()

    def _decode_all(self) -> None:
        while (picture := self._waiting.get()) is not None:
            self._room.take(picture.pixels)
            if not picture.answer.cancelled():
                self._decode(picture)
            if picture.image is None:
                self._room.give(picture.pixels)
            else:
                self._decoded.put(picture)
        self._decoded.put(None)

    def _decode(self, picture: _Picture) -> None:
        start = perf_counter()
        try:
            pixels = decode_image(picture.data, picture.name)
        except Exception as error:
            if picture.answer.set_running_or_notify_cancel():
                picture.answer.set_exception(error)
            return
        picture.image = LoadedImage(picture.name, pixels, (perf_counter() - start) * 1000)

    def _look_at_all(self) -> None:
        while (first := self._decoded.get()) is not None:
            for group in self._groups(self._gathered(first)):
                wanted = [picture for picture in group if picture.answer.set_running_or_notify_cancel()]
                if wanted:
                    start = perf_counter()
                    self._look_at(wanted)
                    each = (perf_counter() - start) / len(wanted)
                    self._seconds_a_picture += 0.1 * (each - self._seconds_a_picture)
                for picture in group:
                    picture.image = None
                    self._room.give(picture.pixels)

    def _gathered(self, first: _Picture) -> list[_Picture]:
        """The first, and others that are ready or will be within moments."""
        pictures, deadline = [first], monotonic() + self._limits.gather_seconds
        while len(pictures) < min(self._limits.batch, self._under_way):
            try:
                picture = self._decoded.get(timeout=max(0.0, deadline - monotonic()))
            except Empty:
                break
            if picture is None:
                self._decoded.put(None)  # the end; for the next to find
                break
            pictures.append(picture)
        return pictures

    def _groups(self, pictures: Sequence[_Picture]) -> list[list[_Picture]]:
        """Those that want the same; one that is cut is alone, as it takes as long as many."""
        groups: dict[Asked | _Picture, list[_Picture]] = {}
        for picture in pictures:
            groups.setdefault(picture if self._is_cut(picture) else picture.asked, []).append(picture)
        return list(groups.values())

    def _is_cut(self, picture: _Picture) -> bool:
        assert picture.image is not None
        return self._tiling is not None and self._tiling.grid(*picture.image.pixels.shape[:2]) is not None

    def _look_at(self, pictures: Sequence[_Picture]) -> None:
        """Answer pictures that want the same, each as soon as it can be."""
        self._batches += 1
        images = [picture.image for picture in pictures if picture.image is not None]
        try:
            results = ask(self._backend, images, pictures[0].asked, self._tiling, batch=self._limits.batch)
            for picture, result in zip(pictures, results, strict=True):
                picture.answer.set_result(result)
        except Exception as error:
            if len(pictures) == 1:
                pictures[0].answer.set_exception(error)
                return
            for picture in pictures:
                if not picture.answer.done():
                    self._look_at([picture])


class _Room:
    """Pixels that decoded pictures may have together."""

    def __init__(self, pixels: int) -> None:
        self._pixels = pixels
        self._taken = 0
        self._changed = Condition()

    def take(self, pixels: int) -> None:
        """Wait until there is room for a picture; where there is no other there always is."""
        with self._changed:
            self._changed.wait_for(lambda: self._taken == 0 or self._taken + pixels <= self._pixels)
            self._taken += pixels

    def give(self, pixels: int) -> None:
        with self._changed:
            self._taken -= pixels
            self._changed.notify_all()


def ask(
    backend: Backend, images: Sequence[LoadedImage], asked: Asked, tiling: Tiling | None = None, *, batch: int = 1
) -> Iterator[Result]:
    """The results of pictures, or of tiles, so many of which are looked at together. Raises UsageError at the call, as
    `detect_loaded`."""
    pairs = detect_loaded(
        backend,
        images,
        score=asked.conf,
        iou=asked.iou,
        max_det=asked.max_det,
        classes=asked.classes,
        batch=batch,
        tiling=tiling,
    )
    return (result for _, result in pairs)


def warm_up(backend: Backend) -> None:
    """Let the model look at nothing once: the first picture of all is slow, and a model that fails does so here."""
    grey = np.full((backend.image_size, backend.image_size, 3), PADDING_GREY, np.uint8)
    next(ask(backend, [LoadedImage("", grey)], Asked()))

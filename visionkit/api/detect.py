"""A trained model, ready to look at pictures: a detector or a classifier."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionkit.classes import ClassTable
from visionkit.engine.numbered_folder import numbered_folder
from visionkit.errors import DataError, UsageError
from visionkit.predict.backend import Backend
from visionkit.predict.detect import LoadedImage, detect_loaded, read_images
from visionkit.predict.graph_backend import GraphBackend
from visionkit.predict.output_folder import Write, output_folder
from visionkit.predict.output_formats import DEFAULT_FORMATS, chosen_formats
from visionkit.predict.reading import Reading
from visionkit.predict.sources import Given, Source, find_sources
from visionkit.predict.tiling import Tiling, chosen_tiling
from visionkit.result import Result, Task

if TYPE_CHECKING:
    from visionkit.predict.video_source import Moment


class Detector:
    """A model that takes pictures and gives Results.

    >>> model = load("best.safetensors")  # doctest: +SKIP
    >>> model.detect("image.jpg")[0].counts()  # doctest: +SKIP
    {'RBC': 12, 'WBC': 1}
    """

    def __init__(self, backend: Backend, task: Task = "detect", tiling: Tiling | None = None) -> None:
        self.backend = backend
        self.task = task
        self.tiling = tiling
        """How it learnt to see larger images, and sees them where nothing else is asked for; None: whole."""

    @property
    def classes(self) -> ClassTable:
        return self.backend.classes

    def tiling_for(self, tile: int | None, overlap: float | None) -> Tiling | None:
        """How larger images are seen where these options are given; None: whole. Raises UsageError as `chosen_tiling`,
        or where a classifier is to see tiles."""
        tiling = chosen_tiling(tile, overlap, self.tiling)
        if tiling is not None and self.task == "classify":
            raise UsageError(
                f"{self.backend.name} is a classifier, tiles are for detectors and segmenters; leave out --tile"
            )
        return tiling

    def detect(
        self,
        *sources: Given,
        conf: float = 0.25,
        iou: float | None = None,
        max_det: int = 300,
        classes: Sequence[str] | None = None,
        tile: int | None = None,
        overlap: float | None = None,
        why: bool = False,
        every: int = 1,
        allow_private_urls: bool = False,
        offline: bool = False,
    ) -> list[Result]:
        """Results of all images: of files, folders, globs and list files (`images.txt`, a path or URL a line), of every
        frame of videos, of http and https URLs, of `-` for standard input, of arrays u8 [H, W, 3] in RGB and of images
        of Pillow's.

        A frame's `path` says its number from 0 and its time: `clip.mp4#frame=12&t=0.480`. An array's is empty.

        Args:
            conf: lowest score shown; a classifier's best class is shown whatever its score.
            iou: of two detections of a class that overlap more, the better one is kept; the model's own where None.
            max_det: most detections an image, or classes.
            classes: names to look for; all where None.
            tile: side in pixels of the overlapping tiles that larger images are seen in; as trained where None, whole
                where 0.
            overlap: share of a tile that neighbours have in common; 0.2 where None.
            why: whether results say why, in `why`: where each candidate came from, and what became of it.
            every: of a video's frames every n-th, from the first on.
            allow_private_urls: also URLs of addresses that are not public, as those of one's own network.
            offline: never use the network for sources; so does `VISIONKIT_OFFLINE=1`.

        Raises:
            UsageError, DataError: an option is out of range or not for this model, a source is missing, names no image
                or has no end, or an image cannot be read.
        """

        def refuse(_name: Path | str, error: DataError) -> None:
            raise error

        return list(
            self._stream(
                sources,
                conf=conf,
                iou=iou,
                max_det=max_det,
                classes=classes,
                tiling=self.tiling_for(tile, overlap),
                why=why,
                reading=Reading(every, offline, allow_private_urls, live=False),
                on_skip=refuse,
            )
        )

    def stream(
        self,
        *sources: Given,
        conf: float = 0.25,
        iou: float | None = None,
        max_det: int = 300,
        classes: Sequence[str] | None = None,
        tile: int | None = None,
        overlap: float | None = None,
        why: bool = False,
        every: int = 1,
        allow_private_urls: bool = False,
        offline: bool = False,
        on_skip: Callable[[Path | str, DataError], None] | None = None,
    ) -> Generator[Result, None, None]:
        """The same, one Result at a time; also of cameras (`0` or `webcam:0`) and streams (rtsp, and MJPEG over http),
        which have no end: each time of their newest frame.

        What cannot be read is left out, and handed to `on_skip`, a file's path or another source's name, or, where
        there is none, warned about. Close the iterator to give a camera back before its end.
        """
        return self._stream(
            sources,
            conf=conf,
            iou=iou,
            max_det=max_det,
            classes=classes,
            tiling=self.tiling_for(tile, overlap),
            why=why,
            reading=Reading(every, offline, allow_private_urls),
            on_skip=on_skip or _warn,
        )

    def _stream(
        self,
        sources: Sequence[Given],
        *,
        reading: Reading,
        on_skip: Callable[[Path | str, DataError], None],
        **options: Any,
    ) -> Generator[Result, None, None]:
        images = read_images(find_sources(sources), on_skip=on_skip, reading=reading)
        pairs = _detected(self.backend, images, **options)

        def results() -> Generator[Result, None, None]:
            with closing(images):
                for _, result in pairs:
                    yield result

        return results()


def _detected(
    backend: Backend,
    images: Iterable[LoadedImage],
    *,
    conf: float,
    iou: float | None,
    max_det: int,
    classes: Sequence[str] | None,
    tiling: Tiling | None,
    why: bool,
) -> Iterator[tuple[LoadedImage, Result]]:
    """Images with their results, which say why where they are asked to."""
    pairs = detect_loaded(backend, images, score=conf, iou=iou, max_det=max_det, classes=classes, tiling=tiling)
    if not why:
        return pairs
    if isinstance(backend, GraphBackend):
        raise UsageError(
            "why is told by models in PyTorch, this one is an exported graph; load the bundled model by "
            "load(why=True), another one from the .safetensors file that it was exported from"
        )
    from visionkit.api.why import with_why  # noqa: PLC0415 - only where someone asks

    return with_why(pairs, backend, conf=conf, iou=iou, max_det=max_det, classes=classes, tiling=tiling)


def _warn(_name: Path | str, error: DataError) -> None:
    warnings.warn(f"skipped: {error}", stacklevel=2)


def detect(
    detector: Detector,
    sources: Iterable[Source],
    *,
    conf: float = 0.25,
    iou: float | None = None,
    max_det: int = 300,
    classes: Sequence[str] | None = None,
    tile: int | None = None,
    overlap: float | None = None,
    why: bool = False,
    every: int = 1,
    allow_private_urls: bool = False,
    offline: bool = False,
    save: bool = True,
    formats: Sequence[str] | None = None,
    out: Path | None = None,
    on_folder: Callable[[Path], None] = lambda folder: None,
    on_frame: Callable[[Moment], None] = lambda moment: None,
    on_result: Callable[[Result], None] = lambda result: None,
    on_skip: Callable[[Path | str, DataError], None] = lambda name, error: None,
) -> int:
    """Detect in images and videos, one picture at a time, and write what was found as it is found.

    All that is written is whole after every image, but annotated videos, which are whole when they are closed. No
    folder is made before the first image is read.

    Args:
        sources: as `find_sources` gives them; they are asked for one by one.
        save: write annotated pictures, and of videos annotated videos.
        formats: write what was found as these, names of `output_formats.FORMATS`; `DEFAULT_FORMATS` has the one where
            None.
        out: the folder for both; where None a new one under runs/detect, runs/segment or runs/classify, as the model's
            task is.
        on_folder: told the folder before anything is written to it.
        on_frame: told each frame of a video before its result.
        on_result: told each result as it comes.
        on_skip: told what cannot be read, a file's path or another source's name, and why.
        others: as for `Detector.detect`.

    Returns:
        How many images and frames were read.

    Raises:
        UsageError: an option is out of range or not for this model; nothing was done then.
    """
    written = chosen_formats([DEFAULT_FORMATS[detector.task]] if formats is None else formats, detector.task)
    images = read_images(sources, on_skip=on_skip, reading=Reading(every, offline, allow_private_urls))
    tiling = detector.tiling_for(tile, overlap)
    pairs = _detected(
        detector.backend, images, conf=conf, iou=iou, max_det=max_det, classes=classes, tiling=tiling, why=why
    )
    count = 0
    with closing(images), ExitStack() as files:
        write: Write | None = None
        for image, result in pairs:
            if write is None and (save or written):
                # Only now, when no option can be refused any more, and there is something to write.
                folder = out or numbered_folder(Path("runs") / detector.task, detector.task)
                on_folder(folder)
                write = files.enter_context(output_folder(folder, written, pictures=save))
            if write is not None:
                write(image, result)
            if image.moment is not None:
                on_frame(image.moment)
            on_result(result)
            count += 1
    return count

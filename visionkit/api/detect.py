"""A trained model, ready to look at pictures: a detector or a classifier."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from visionkit.api.weights import find_model
from visionkit.classes import ClassTable
from visionkit.engine.device import choose_device, use_threads
from visionkit.engine.events import Listener
from visionkit.engine.run_folder import numbered_folder
from visionkit.engine.torch_backend import TorchBackend
from visionkit.errors import DataError, UsageError
from visionkit.predict.backend import Backend
from visionkit.predict.detect import LoadedImage, detect_loaded, read_images
from visionkit.predict.drawing import draw
from visionkit.predict.output_formats import DEFAULT_FORMATS, OutputFormat, chosen_formats
from visionkit.predict.sources import find_images
from visionkit.predict.tiling import Tiling, chosen_tiling
from visionkit.predict.why_drawing import draw_why
from visionkit.predict.writers import OutputNames, save_picture
from visionkit.result import Result, Task


class Detector:
    """A model that takes files and gives Results.

    >>> model = load("best.safetensors")  # doctest: +SKIP
    >>> model.detect("image.jpg")[0].counts()  # doctest: +SKIP
    {'RBC': 12, 'WBC': 1}
    """

    def __init__(self, backend: Backend, task: Task = "detect") -> None:
        self.backend = backend
        self.task = task

    @property
    def classes(self) -> ClassTable:
        return self.backend.classes

    def detect(
        self,
        *sources: str | Path,
        conf: float = 0.25,
        iou: float | None = None,
        max_det: int = 300,
        classes: Sequence[str] | None = None,
        tile: int | None = None,
        overlap: float | None = None,
        why: bool = False,
    ) -> list[Result]:
        """Results of all images of files, folders, globs and list files (`images.txt`, one path a line).

        Args:
            conf: lowest score shown; a classifier's best class is shown whatever its score.
            iou: of two detections of a class that overlap more, the better one is kept; the model's own where None.
            max_det: most detections an image, or classes.
            classes: names to look for; all where None.
            tile: side in pixels of the overlapping tiles that larger images are seen in; whole where None.
            overlap: share of a tile that neighbours have in common; 0.2 where None.
            why: whether results say why, in `why`: where each candidate came from, and what became of it.

        Raises:
            UsageError, DataError: a source is missing or names no image, or an image cannot be read.
        """

        def refuse(_path: Path, error: DataError) -> None:
            raise error

        return list(
            self.stream(
                *sources,
                conf=conf,
                iou=iou,
                max_det=max_det,
                classes=classes,
                tile=tile,
                overlap=overlap,
                why=why,
                on_skip=refuse,
            )
        )

    def stream(
        self,
        *sources: str | Path,
        conf: float = 0.25,
        iou: float | None = None,
        max_det: int = 300,
        classes: Sequence[str] | None = None,
        tile: int | None = None,
        overlap: float | None = None,
        why: bool = False,
        on_skip: Callable[[Path, DataError], None] | None = None,
    ) -> Iterator[Result]:
        """The same, one Result at a time; an image that cannot be read is left out, and handed to `on_skip` or, where
        there is none, warned about."""
        tiling = chosen_tiling(tile, overlap)
        paths = find_images([str(source) for source in sources])
        images = read_images(paths, on_skip=on_skip or _warn)
        pairs = _detected(
            self.backend, images, conf=conf, iou=iou, max_det=max_det, classes=classes, tiling=tiling, why=why
        )
        return (result for _, result in pairs)


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
    from visionkit.api.why import with_why  # noqa: PLC0415 - only where someone asks

    return with_why(pairs, backend, conf=conf, iou=iou, max_det=max_det, classes=classes, tiled=tiling is not None)


def _warn(_path: Path, error: DataError) -> None:
    warnings.warn(f"skipped: {error}", stacklevel=2)


def load(
    weights: str | Path = "default",
    *,
    device: str = "auto",
    imgsz: int | None = None,
    threads: int = 0,
    amp: bool | None = None,
    exact: bool = False,
    offline: bool = False,
    listen: Listener = lambda event: None,
    say: Callable[[str], None] = lambda line: None,
) -> Detector:
    """The model of a .safetensors file that `finetune` wrote, or another one by its name.

    It runs in fewer layers than it learnt in: batch norms are folded into the convolutions before them, which changes
    results by rounding alone. bf16 changes them more. `evaluate` folds nothing; `exact` gives what it gives in fp32.

    Args:
        weights: the file; `default`, the bundled model; `coco` or `torchvision:NAME`, a published one, which is
            downloaded where it is not here.
        imgsz: side of the square network input in pixels; as trained where None.
        threads: CPU threads; 0 leaves torch's choice.
        amp: bf16 where the hardware has it, or fp32; as trained where None.
        exact: fp32, layer by layer as in training.
        offline: never use the network.
        listen: told how far a download is.
        say: told what is downloaded before it is.

    Raises:
        CheckpointError: missing, damaged or not visionkit's.
        UsageError: the device is not here, the model's stride does not divide the image size, or exact and amp are both
            asked for.
        VisionkitError: weights cannot be downloaded.
    """
    if exact and amp:
        raise UsageError("exact means fp32 and amp asks for bf16; leave one of them out")
    use_threads(threads)
    where = choose_device(device)
    loaded = find_model(weights, offline=offline, listen=listen, say=say)
    return Detector(
        TorchBackend(
            loaded.model,
            loaded.classes,
            image_size=loaded.image_size(imgsz),
            device=where,
            amp=False if exact else loaded.recipe.train.amp if amp is None else amp,
            name=loaded.name,
            sha256=loaded.sha256,
            exact=exact,
        ),
        loaded.model.task,
    )


def detect(
    detector: Detector,
    paths: Iterable[Path],
    *,
    conf: float = 0.25,
    iou: float | None = None,
    max_det: int = 300,
    classes: Sequence[str] | None = None,
    tile: int | None = None,
    overlap: float | None = None,
    why: bool = False,
    save: bool = True,
    formats: Sequence[str] | None = None,
    out: Path | None = None,
    on_folder: Callable[[Path], None] = lambda folder: None,
    on_result: Callable[[Result], None] = lambda result: None,
    on_skip: Callable[[Path, DataError], None] = lambda path, error: None,
) -> int:
    """Detect on image files, one at a time, and write what was found as it is found.

    All that is written is whole after every image. No folder is made before the first image is read.

    Args:
        paths: image files, as `find_images` gives them; they are asked for one by one.
        save: write annotated pictures.
        formats: write what was found as these, names of `output_formats.FORMATS`; `DEFAULT_FORMATS` has the one where
            None.
        out: the folder for both; a new one under runs/detect where None.
        on_folder: told the folder before anything is written to it.
        on_result: told each result as it comes.
        on_skip: told each image that cannot be read, and why.
        others: as for `Detector.detect`.

    Returns:
        How many images were read.

    Raises:
        UsageError: an option is out of range; nothing was done then.
    """
    written = chosen_formats([DEFAULT_FORMATS[detector.task]] if formats is None else formats, detector.task)
    images = read_images(paths, on_skip=on_skip)
    tiling = chosen_tiling(tile, overlap)
    pairs = _detected(
        detector.backend, images, conf=conf, iou=iou, max_det=max_det, classes=classes, tiling=tiling, why=why
    )
    count = 0
    with ExitStack() as files:
        write: Callable[[LoadedImage, Result], None] | None = None
        for image, result in pairs:
            if write is None and (save or written):
                # Only now, when no option can be refused any more, and there is something to write.
                folder = out or numbered_folder(Path("runs") / "detect", "detect")
                on_folder(folder)
                write = files.enter_context(_output(folder, written, save))
            if write is not None:
                write(image, result)
            on_result(result)
            count += 1
    return count


@contextmanager
def _output(
    folder: Path, formats: Sequence[OutputFormat], pictures: bool
) -> Iterator[Callable[[LoadedImage, Result], None]]:
    """Writes images' results into a folder in all formats, and their pictures where wanted."""
    names = OutputNames(folder, reserved=[stem for chosen in formats for stem in chosen.reserved])
    with ExitStack() as files:
        writers = [files.enter_context(chosen.writer(folder)) for chosen in formats]

        def write(image: LoadedImage, result: Result) -> None:
            picture = names.take(image.path)
            for add in writers:
                add(result, number=image.number, name=picture.stem)
            if pictures:
                save_picture(picture, (draw if result.why is None else draw_why)(image.pixels, result))

        yield write

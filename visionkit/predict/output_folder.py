"""A folder of results: files in the formats asked for, annotated pictures of images and videos of videos."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from visionkit.predict.detect import LoadedImage
from visionkit.predict.drawing import draw
from visionkit.predict.output_formats import OutputFormat
from visionkit.predict.sources import file_name
from visionkit.predict.why_drawing import draw_why
from visionkit.predict.writers import OutputNames, frame_stem, save_picture
from visionkit.result import Result

if TYPE_CHECKING:
    from visionkit.predict.video_writer import AnnotatedVideos

Write = Callable[[LoadedImage, Result], None]
"""Writes what a model says of one image or frame."""


@contextmanager
def output_folder(folder: Path, formats: Sequence[OutputFormat], *, pictures: bool) -> Iterator[Write]:
    """Writes results into a folder in all formats, and where wanted their pictures: one an image, one video a video.

    Files are whole after every image; a video is whole when it is closed. Own files of a frame are named after the
    video and the frame's number in it, `clip-000012.txt`.

    Args:
        pictures: whether there are annotated pictures and videos.

    Raises:
        UsageError: a file exists.
        VisionkitError: one cannot be written.
    """
    names = OutputNames(folder, reserved=[stem for chosen in formats for stem in chosen.reserved])

    def take(source: str, *, has_frames: bool = False) -> Path:
        return names.take(file_name(source), has_frames=has_frames)

    with ExitStack() as files:
        writers = [files.enter_context(chosen.writer(folder)) for chosen in formats]
        opened: list[AnnotatedVideos] = []

        def videos() -> AnnotatedVideos:
            if not opened:
                from visionkit.predict.video_writer import AnnotatedVideos  # noqa: PLC0415 - only for frames

                opened.append(files.enter_context(AnnotatedVideos(partial(take, has_frames=True))))
            return opened[0]

        def write(image: LoadedImage, result: Result) -> None:
            moment = image.moment
            picture = take(image.path) if moment is None else videos().path(moment)
            # Names taken are remembered, which a camera's frames of a day must not be: theirs are made.
            name = picture.stem if moment is None else frame_stem(picture.stem, moment.frame)
            for add in writers:
                add(result, number=image.number, name=name, pixels=image.pixels)
            if pictures and moment is None:
                save_picture(picture, (draw if result.why is None else draw_why)(image.pixels, result))
            elif pictures and moment is not None:
                videos().add(moment, image.pixels, result)

        yield write

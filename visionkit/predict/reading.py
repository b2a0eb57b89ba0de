"""Each kind of source, read by whom it takes. For images alone nothing else is imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from visionkit.errors import DataError, UsageError
from visionkit.imaging.header import IMAGE_SUFFIXES
from visionkit.imaging.reader import read_image
from visionkit.predict.sources import Address, Camera, GivenPicture, Source
from visionkit.predict.video_container import VIDEO_SUFFIXES, is_video_file

if TYPE_CHECKING:
    from visionkit.predict.video_source import Pictures


@dataclass(frozen=True, slots=True)
class Reading:
    """How sources are read.

    Args:
        every: of a video's frames every n-th, from the first on.
        offline: never use the network.
        allow_private_urls: also URLs of addresses that are not public, as those of one's own network.
        live: also sources without an end, cameras and streams.

    Raises:
        UsageError: `every` is below 1.
    """

    every: int = 1
    offline: bool = False
    allow_private_urls: bool = False
    live: bool = True

    def __post_init__(self) -> None:
        if self.every < 1:
            raise UsageError(f"every must be at least 1, got {self.every}; 1 takes all frames of a video")


DEFAULT_READING = Reading()
"""All frames, of public addresses only."""


def read_source(source: Source, reading: Reading, *, on_broken: Callable[[DataError], None]) -> Pictures:
    """The picture of a source, or its frames, one at a time.

    Args:
        on_broken: told what of a source cannot be read, where the rest can.

    Raises:
        DataError: it cannot be read, or not further.
        UsageError: what is given is no picture, or a source has no end and none such is wanted.
    """
    if isinstance(source, Path):
        if _is_video(source):
            from visionkit.predict.video_source import read_video  # noqa: PLC0415 - see above, and below

            yield from read_video(source, every=reading.every)
        else:
            yield None, read_image(source)
    elif isinstance(source, Camera):
        yield from _camera(source, reading)
    elif isinstance(source, Address):
        from visionkit.predict.url_source import read_address  # noqa: PLC0415

        yield from read_address(
            source,
            every=reading.every,
            offline=reading.offline,
            allow_private=reading.allow_private_urls,
            live=reading.live,
            on_broken=on_broken,
        )
    elif isinstance(source, GivenPicture):
        from visionkit.predict.given_pictures import pixels_of_array, pixels_of_pillow  # noqa: PLC0415

        given = source.picture
        yield None, pixels_of_array(given) if isinstance(given, np.ndarray) else pixels_of_pillow(given, str(source))
    else:
        from visionkit.predict.byte_source import read_standard_input  # noqa: PLC0415

        yield from read_standard_input(name=str(source), every=reading.every)


def _camera(camera: Camera, reading: Reading) -> Pictures:
    from visionkit.predict.newest import newest  # noqa: PLC0415
    from visionkit.predict.video_source import read_camera  # noqa: PLC0415

    if not reading.live:
        raise UsageError(
            f"{camera} is a camera, which has no end, and a list of all its results would have none; use stream"
        )
    yield from newest(read_camera(camera.number, name=str(camera), every=reading.every))


def _is_video(path: Path) -> bool:
    """By its suffix; by its first bytes where that says nothing."""
    suffix = path.suffix.lower()
    return suffix in VIDEO_SUFFIXES or (suffix not in IMAGE_SUFFIXES and is_video_file(path))

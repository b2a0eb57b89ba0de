"""The pictures that results are of, put beside annotations of them: annotation tools open the two together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from visionkit.errors import DataError, UsageError
from visionkit.formats.new_dataset import PictureNames, link_or_copy
from visionkit.formats.records import ImageRecord
from visionkit.imaging.reader import check_image
from visionkit.predict.csv_writer import csv_text
from visionkit.predict.writers import GrowingFile, Pixels, exists_words, named_errors, save_picture
from visionkit.result import Result

COLUMNS = ("picture", "image")


class PlacePicture(Protocol):
    """Puts the picture of a result into the folder, and says what it is called there.

    Args:
        number, name, pixels: as for `AddResult`.
    """

    def __call__(self, result: Result, *, number: int, name: str, pixels: Pixels) -> str: ...


@contextmanager
def source_pictures(folder: Path, table: Path) -> Iterator[PlacePicture]:
    """Pictures in a folder, and a table `sources.csv` that says what image each is of.

    A file is linked, or copied where it cannot be; what is no file of its own, such as a frame of a video, is saved as
    PNG. Raises as GrowingFile and `save_picture`.

    Args:
        folder: of the pictures.
        table: the path of the table.
    """
    names = PictureNames()
    with GrowingFile(table, start=csv_text([COLUMNS])) as rows:

        def place(result: Result, *, number: int, name: str, pixels: Pixels) -> str:
            source = Path(result.path)
            is_file = _is_file_of(result, source)
            suffix = source.suffix if is_file else ".png"
            file_name = names.take(ImageRecord(number, name + suffix, source, result.width, result.height))
            if is_file:
                _put(source, folder / file_name)
            else:
                save_picture(folder / file_name, pixels)
            rows.add(csv_text([(file_name, result.path)]))
            return file_name

        yield place


def _is_file_of(result: Result, path: Path) -> bool:
    """Whether a path is an image file of the result's size."""
    try:
        return path.is_file() and check_image(path) == (result.width, result.height)
    except (DataError, ValueError):  # such as a video, or a name that no file can have
        return False


def _put(picture: Path, target: Path) -> None:
    with named_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            link_or_copy(picture, target)
        except FileExistsError:
            raise UsageError(exists_words(target)) from None

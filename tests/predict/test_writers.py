"""What all files of results share: complete at every moment, named once, nothing overwritten."""

import cv2
import numpy as np
import pytest

from visionkit.errors import UsageError, VisionkitError
from visionkit.predict.writers import GrowingFile, OutputNames, save_picture, write_new


def test_a_growing_file_is_whole_after_every_addition(tmp_path):
    path = tmp_path / "new" / "file"
    with GrowingFile(path, start="[", end="]") as file:
        assert path.read_text() == "[]"
        file.add("1,")
        assert path.read_text() == "[1,]"
        file.add("")
        file.add("ž")
        assert path.read_text(encoding="utf-8") == "[1,ž]"
    assert path.read_text(encoding="utf-8") == "[1,ž]"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_an_addition_that_fails_is_undone(tmp_path, monkeypatch):
    """As on a full disk: half of the addition is written, then the system refuses."""
    path = tmp_path / "file"
    with GrowingFile(path, start="[", end="]") as file:
        file.add("1,")
        real = file._file

        class Full:
            left = 2

            def __getattr__(self, name):
                return getattr(real, name)

            def write(self, data):
                if self.left <= 0:
                    self.left = 100
                    raise OSError(28, "No space left on device")
                self.left -= len(data[:2])
                return real.write(data[:2])

        file._file = Full()
        with pytest.raises(VisionkitError, match=r"file cannot be written \(No space left on device\), results are"):
            file.add("two")
        assert path.read_text() == "[1,]"
        file._file = real
        file.add("3")
    assert path.read_text() == "[1,3]"


def test_a_file_name_that_is_no_utf8_is_escaped(tmp_path):
    with GrowingFile(tmp_path / "file") as file:
        file.add("odd\udcff name.jpg")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "odd\\udcff name.jpg"


@pytest.mark.parametrize("write", [lambda path: GrowingFile(path).__enter__(), lambda path: write_new(path, b"")])
def test_what_exists_is_not_overwritten(tmp_path, write):
    path = tmp_path / "results.json"
    path.write_text("mine")
    with pytest.raises(UsageError, match=r"results\.json exists, nothing is overwritten; choose another name"):
        write(path)
    assert path.read_text() == "mine"


def test_output_names_are_given_once(tmp_path):
    (tmp_path / "c.png").touch()
    names = OutputNames(tmp_path)
    sources = ["x/a.jpg", "y/a.jpg", "A.JPG", "b.webp", "b.bmp", "c.tif", "photo.v2.jpeg", "a-2.jpg", "a.png", ""]
    sources.append("d.jfif")
    assert [names.take(source).name for source in sources] == [
        *("a.jpg", "a-2.jpg", "A-3.JPG"),
        *("b.png", "b-2.png"),
        "c-2.png",
        "photo.v2.jpeg",
        "a-2-2.jpg",
        "a-4.png",  # not a.png: a.txt would be of two images
        "image.png",
        "d.jfif",
    ]
    assert names.take("x/a.jpg").parent == tmp_path


def test_files_of_frames_meet_no_picture(tmp_path):
    names = OutputNames(tmp_path)
    assert names.take("Clip-000001.png").stem == "Clip-000001"
    assert names.take("clip.mp4", has_frames=True).stem == "clip-2"  # whose second frame's files are clip-2-000001.*
    assert names.take("film.mp4", has_frames=True).stem == "film"
    sources = ["film-000001.png", "film-1.png", "film-12.png", "film-1234567.png", "other-000001.png"]
    stems = ["film-000001-2", "film-1", "film-12", "film-1234567-2", "other-000001"]
    assert [names.take(source).stem for source in sources] == stems


def test_names_too_long_for_a_file_system_are_shortened(tmp_path):
    names = OutputNames(tmp_path)
    # 255 bytes are what a name may have; addresses have longer ones, and a number must still fit.
    assert names.take("x" * 255).name == f"{'x' * 200}.png"
    assert names.take(f"{'x' * 3000}.jpg").name == f"{'x' * 200}-2.jpg"
    # Three bytes each: the 67th does not fit whole.
    assert names.take(f"{'図' * 80}.png").name == f"{'図' * 66}.png"
    assert names.take(f"{'x' * 200}.tif").name == f"{'x' * 200}-3.png"


def test_reserved_names_are_never_given(tmp_path):
    names = OutputNames(tmp_path, reserved=["classes"])
    assert [names.take(source).name for source in ("Classes.jpg", "classes.png")] == ["Classes-2.jpg", "classes-3.png"]


@pytest.mark.parametrize(("name", "tolerance"), [("a.png", 0), ("a.jpg", 12), ("ü 图.JPEG", 12), ("a.jfif", 12)])
def test_pictures_are_saved_as_rgb(tmp_path, name, tolerance):
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[:, :15] = (250, 100, 10)
    save_picture(tmp_path / "new" / name, picture)
    data = np.fromfile(tmp_path / "new" / name, np.uint8)
    assert (data[:2].tolist() == [0xFF, 0xD8]) == (tolerance > 0)
    back = cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1]
    assert np.abs(back.astype(int) - picture).max() <= tolerance


def test_a_picture_is_not_overwritten(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("mine")
    with pytest.raises(UsageError, match=r"a\.png exists, nothing is overwritten; choose another name or move it"):
        save_picture(path, np.zeros((2, 2, 3), np.uint8))
    assert path.read_text() == "mine"


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    wanted = r"cannot be written \(.+\), results are saved there; free space or choose another folder"
    with pytest.raises(VisionkitError, match=wanted):
        save_picture(tmp_path / "file" / "a.png", np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(VisionkitError, match=wanted):
        GrowingFile(tmp_path / "file" / "results.json").__enter__()


def test_a_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    """As on a full disk, or when the process is told to stop: half of it is written."""
    real = type(tmp_path).write_bytes

    def half(path, data):
        real(path, data[: len(data) // 2])
        assert not (tmp_path / "a.txt").exists(), "not under its name, so that a SIGKILL now leaves no half file there"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(tmp_path), "write_bytes", half)
    with pytest.raises(VisionkitError, match=r"a\.txt cannot be written \(No space left on device\), results are"):
        write_new(tmp_path / "a.txt", b"0123456789")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    write_new(tmp_path / "a.txt", b"0123456789")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]

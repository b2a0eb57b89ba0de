"""Which files a user's words name."""

import os
from pathlib import Path

import pytest

from visionkit.errors import DataError, UsageError
from visionkit.predict.sources import find_images


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names):
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(*sources):
    return [path.as_posix() for path in find_images(sources)]


def test_sources_keep_the_order_given(folder):
    touch("b.jpg", "a.jpg")
    assert found("b.jpg", "a.jpg") == ["b.jpg", "a.jpg"]


def test_a_folder_gives_its_own_images_as_people_count(folder):
    touch("p/img10.jpg", "p/img2.PNG", "p/B.webp", "p/a.Tiff", "p/notes.txt", "p/._img2.PNG", "p/deeper/c.jpg")
    assert found("p") == ["p/a.Tiff", "p/B.webp", "p/img2.PNG", "p/img10.jpg"]


def test_globs(folder):
    touch("p/2.jpg", "p/10.jpg", "p/q/3.jpg", "p/x.txt")
    assert found("p/*") == ["p/2.jpg", "p/10.jpg"]
    assert found("p/**/*.jpg") == ["p/2.jpg", "p/10.jpg", "p/q/3.jpg"]
    assert found("p/[0-9].jpg") == ["p/2.jpg"]


def test_an_image_named_twice_comes_once_at_its_first_place(folder):
    touch("p/a.jpg", "p/b.jpg")
    assert found("p/b.jpg", "p", "./p/../p/a.jpg", str(folder / "p" / "b.jpg")) == ["p/b.jpg", "p/a.jpg"]


@pytest.mark.parametrize("name", ["a[1].jpg", "with space.jpg", "#1 (?).jpg", "łódź 图.jpg", "*.jpg"])
def test_a_file_that_exists_is_taken_literally(folder, name):
    touch(name, "a1.jpg", "other.jpg")
    assert found(name) == [name]


def test_a_folder_that_exists_is_taken_literally_in_a_glob(folder):
    touch("photos [new]/a.jpg", "photos n/b.jpg")
    assert found("photos [new]/*.jpg") == ["photos [new]/a.jpg"]


def test_an_absolute_glob(folder):
    touch("a.jpg")
    assert find_images([str(folder / "*.jpg")]) == [folder / "a.jpg"]


def test_a_file_named_outright_is_taken_whatever_its_suffix(folder):
    touch("upload")
    assert found("upload") == ["upload"]


def test_nothing_named():
    with pytest.raises(UsageError, match="no image is named, detection needs at least one; name a file, a folder"):
        find_images([])
    with pytest.raises(UsageError, match="a source is empty, it must name a file, a folder, a glob or a list; leave"):
        find_images([" "])


def test_a_path_that_does_not_exist(folder):
    with pytest.raises(DataError, match=r"bus\.jpg does not exist, a source is a file, .*; check the spelling"):
        find_images(["bus.jpg"])


def test_a_glob_that_matches_no_image(folder):
    touch("x.txt")
    with pytest.raises(DataError, match=r"\*\.txt matches no image file .*, a glob must match .*; check the pattern"):
        find_images(["*.txt"])


def test_a_folder_without_images_names_the_way_to_its_subfolders(folder):
    touch("p[1]/deeper/c.jpg")
    with pytest.raises(DataError, match=r"folder .* holds no image .*, subfolders are not searched; name another") as e:
        find_images(["p[1]"])
    suggestion = str(e.value).split("'")[1]
    assert found(suggestion) == ["p[1]/deeper/c.jpg"]


# Lists ----------------------------------------------------------------------------------------------------------------


def test_a_list_has_a_path_a_line_relative_to_the_list(folder):
    touch("lists/p/b.jpg", "a.jpg", "other.jpg")
    lines = ["\ufeff# two pictures", "", "  p/b.jpg  ", "../a.jpg", "p/missing.jpg", f"{folder}/other.jpg", "./#1.jpg"]
    Path("lists/images.TXT").write_bytes("\r\n".join(lines).encode())
    # The missing one stays in: reading names it and goes on. `#1.jpg` would be a comment, `./#1.jpg` is a path.
    names = ["lists/p/b.jpg", "lists/../a.jpg", "lists/p/missing.jpg", f"{folder}/other.jpg", "lists/#1.jpg"]
    assert found("lists/images.TXT") == names


def test_a_list_among_other_sources_names_no_image_twice(folder):
    touch("p/1.jpg", "p/2.jpg")
    Path("images.txt").write_text("p/2.jpg\np/2.jpg\nłódź.jpg", encoding="utf-8")
    assert found("images.txt", "p") == ["p/2.jpg", "łódź.jpg", "p/1.jpg"]


def test_lists_that_are_none(folder, monkeypatch):
    Path("empty.txt").write_text("\n# nothing\n")
    with pytest.raises(DataError, match=r"list empty\.txt names no image, one path a line is wanted; fill it or"):
        find_images(["empty.txt"])
    Path("photo.txt").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(
        DataError, match=r"list photo\.txt is not UTF-8 text, a path a line is wanted; name an image or"
    ):
        find_images(["photo.txt"])
    monkeypatch.setattr("visionkit.predict.sources.MAX_LIST_BYTES", 3)
    with pytest.raises(DataError, match=r"list photo\.txt is larger than 3 bytes, a path a line is wanted; split it"):
        find_images(["photo.txt"])


def test_a_list_that_cannot_be_read(folder, monkeypatch):
    touch("images.txt")

    def refuse(self, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(DataError, match=r"list images\.txt cannot be read \(Permission denied\), .*; check its permis"):
        find_images(["images.txt"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe(folder):
    os.mkfifo("pipe.jpg")
    with pytest.raises(DataError, match=r"pipe\.jpg is a device, pipe or socket, .*; save it to a file first"):
        find_images(["pipe.jpg"])


def test_a_folder_that_cannot_be_listed(folder, monkeypatch):
    Path("p").mkdir()

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match=r"folder p cannot be listed \(Permission denied\), .*; check its permissions"):
        find_images(["p"])

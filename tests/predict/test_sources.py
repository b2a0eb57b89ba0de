"""Which files a user's words name."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visionkit.errors import DataError, UsageError
from visionkit.imaging.header import IMAGE_SUFFIXES
from visionkit.predict.sources import (
    Address,
    Camera,
    GivenPicture,
    StandardInput,
    check_address,
    file_name,
    find_images,
    find_sources,
)


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
    return [path.as_posix() for path in find_sources(sources)]


def test_sources_keep_the_order_given(folder):
    touch("b.jpg", "a.jpg")
    assert found("b.jpg", "a.jpg") == ["b.jpg", "a.jpg"]


def test_a_folder_gives_its_own_images_as_people_count(folder):
    touch("p/img10.jpg", "p/img2.PNG", "p/B.webp", "p/a.Tiff", "p/notes.txt", "p/._img2.PNG", "p/deeper/c.jpg")
    touch("p/clip3.MP4", "p/.clip4.mp4", "p/program.ts")
    assert found("p") == ["p/a.Tiff", "p/B.webp", "p/clip3.MP4", "p/img2.PNG", "p/img10.jpg"]


def test_globs(folder):
    touch("p/2.jpg", "p/10.jpg", "p/q/3.jpg", "p/x.txt", "p/q/4.mov")
    assert found("p/*") == ["p/2.jpg", "p/10.jpg"]
    assert found("p/**/*.jpg") == ["p/2.jpg", "p/10.jpg", "p/q/3.jpg"]
    assert found("p/[0-9].jpg") == ["p/2.jpg"]
    assert found("p/**/*.mov") == ["p/q/4.mov"]


def test_folders_that_are_links(folder):
    touch("p/1.jpg", "other/2.jpg")
    Path("p/circle").symlink_to(folder / "p")
    Path("p/above").symlink_to(folder)
    Path("p/other").symlink_to(folder / "other")
    assert found("p/**/*.jpg") == ["p/1.jpg", "p/other/2.jpg"]
    # Named outright it is a folder as any other.
    assert found("p/circle/*.jpg") == ["p/circle/1.jpg"]


def test_two_links_in_a_circle_list_no_picture_twice(folder):
    touch("top/a/1.jpg", "top/b/2.jpg", "top/b/deep/3.jpg")
    Path("top/a/to_b").symlink_to(folder / "top/b")
    Path("top/b/deep/to_a").symlink_to(folder / "top/a")
    assert found("top/**/*.jpg") == ["top/a/1.jpg", "top/b/2.jpg", "top/b/deep/3.jpg"]
    assert found("top/**") == ["top/a/1.jpg", "top/b/2.jpg", "top/b/deep/3.jpg"]
    # From one of them alone the other has no name of its own.
    assert found("top/a/**/*.jpg") == ["top/a/1.jpg", "top/a/to_b/2.jpg", "top/a/to_b/deep/3.jpg"]
    assert found("top/b/deep/**/[0-9].jpg") == ["top/b/deep/3.jpg", "top/b/deep/to_a/1.jpg"]


def test_a_folder_with_two_links_to_it_is_looked_through_once(folder):
    touch("p/1.jpg", "elsewhere/2.jpg")
    for name in ("one", "two"):
        Path("p", name).symlink_to(folder / "elsewhere")
    assert found("p/**/*.jpg") == ["p/1.jpg", "p/one/2.jpg"]
    assert found("p/two/*.jpg", "p/**/*.jpg") == ["p/two/2.jpg", "p/1.jpg", "p/one/2.jpg"]  # files of their own


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_a_folder_gives_images_of_every_suffix(folder, suffix):
    touch(f"p/photo{suffix}", f"p/SCAN{suffix.upper()}", "p/notes.txt")
    assert found("p") == [f"p/photo{suffix}", f"p/SCAN{suffix.upper()}"]


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
    assert find_sources([str(folder / "*.jpg")]) == [folder / "a.jpg"]


def test_a_file_named_outright_is_taken_whatever_its_suffix(folder):
    touch("upload")
    assert found("upload") == ["upload"]


def test_nothing_named():
    with pytest.raises(UsageError, match="no image is named, detection needs at least one; name a file, a folder"):
        find_sources([])
    with pytest.raises(UsageError, match="a source is empty, it must name a file, a folder, a glob or a list; leave"):
        find_sources([" "])


def test_a_path_that_does_not_exist(folder):
    with pytest.raises(DataError, match=r"bus\.jpg does not exist, a source is a file, .*; check the spelling"):
        find_sources(["bus.jpg"])


def test_a_glob_that_matches_no_image(folder):
    touch("x.txt")
    with pytest.raises(DataError, match=r"\*\.txt matches no image or video .*, a glob must .*; check the pattern"):
        find_sources(["*.txt"])


def test_a_folder_without_images_names_the_way_to_its_subfolders(folder):
    touch("p[1]/deeper/c.jpg")
    with pytest.raises(DataError, match=r"folder .* holds no image .*, subfolders are not searched; name another") as e:
        find_sources(["p[1]"])
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
        find_sources(["empty.txt"])
    Path("photo.txt").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(
        DataError, match=r"list photo\.txt is not UTF-8 text, a path a line is wanted; name an image or"
    ):
        find_sources(["photo.txt"])
    monkeypatch.setattr("visionkit.predict.sources.MAX_LIST_BYTES", 3)
    with pytest.raises(DataError, match=r"list photo\.txt is larger than 3 bytes, a path a line is wanted; split it"):
        find_sources(["photo.txt"])


def test_a_list_that_cannot_be_read(folder, monkeypatch):
    touch("images.txt")

    def refuse(self, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(DataError, match=r"list images\.txt cannot be read \(Permission denied\), .*; check its permis"):
        find_sources(["images.txt"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe(folder):
    os.mkfifo("pipe.jpg")
    with pytest.raises(DataError, match=r"pipe\.jpg is a device, pipe or socket, .*; save it to a file first"):
        find_sources(["pipe.jpg"])


def test_a_folder_that_cannot_be_listed(folder, monkeypatch):
    Path("p").mkdir()

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match=r"folder p cannot be listed \(Permission denied\), .*; check its permissions"):
        find_sources(["p"])


# Cameras, addresses, standard input, pictures -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "number"),
    [("0", 0), ("2", 2), ("webcam", 0), ("webcam:0", 0), ("webcam:11", 11), ("/dev/video7", 7), (1, 1)],
)
def test_cameras(folder, given, number):
    assert find_sources([given]) == [Camera(number)]


def test_a_file_called_like_a_camera_is_a_file(folder):
    touch("0")
    assert found("0", "./0") == ["0"]
    assert find_sources([0]) == [Camera(0)]


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.org/a.jpg", "https://example.org/a.jpg?size=2&v=[1]*", "HTTPS://EXAMPLE.ORG"),
        *("rtsp://cam.local:554/live", "rtsps://10.0.0.1/1"),
    ],
)
def test_addresses(folder, url):
    assert find_sources([url, url]) == [Address(url)]


def test_addresses_that_are_not_read(folder):
    with pytest.raises(DataError, match=r"^file:///etc/passwd is an address that is not read, known are http, http"):
        find_sources(["file:///etc/passwd"])
    with pytest.raises(DataError, match=r"^http:// names no host, an address is https://HOST/PATH; complete it"):
        find_sources(["http://"])
    assert check_address(Address("HTTPS://example.org")) == "https"


def test_an_address_as_text_has_no_password():
    assert str(Address("rtsp://user:p@ss@cam.local/live?q=a@b")) == "rtsp://cam.local/live?q=a@b"
    assert str(Address("https://example.org/@someone/a.jpg")) == "https://example.org/@someone/a.jpg"


def test_a_list_may_name_addresses(folder):
    """Whether they can be read is for the reader to say, also where they are of an unknown kind."""
    Path("images.txt").write_text("a.jpg\nhttps://example.org/b.jpg\nftp://example.org/c.jpg\n0\n")
    assert find_sources(["images.txt"]) == [
        Path("a.jpg"),
        Address("https://example.org/b.jpg"),
        Address("ftp://example.org/c.jpg"),
        Path("0"),
    ]


def test_standard_input(folder, monkeypatch):
    touch("-")
    assert find_sources(["-", "-"]) == [StandardInput()]
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="- is an image from standard input, which is a terminal; pipe one in, as"):
        find_sources(["-"])


def test_pictures_that_are_here_already(tmp_path):
    array, image = np.zeros((4, 6, 3), np.uint8), Image.new("RGB", (6, 4))
    image.save(tmp_path / "a.png")
    sources = find_sources([array, image, array, Image.open(tmp_path / "a.png")])
    assert all(isinstance(source, GivenPicture) for source in sources)
    # The same one twice is two pictures.
    assert [id(source.picture) for source in sources[:3]] == [id(array), id(image), id(array)]
    assert [str(source) for source in sources] == ["", "", "", str(tmp_path / "a.png")]


@pytest.mark.parametrize(("given", "kind"), [(["a.jpg"], "list"), (1.5, "float"), (None, "NoneType"), (True, "bool")])
def test_what_is_no_source(given, kind):
    with pytest.raises(UsageError) as error:
        find_sources([given])
    assert str(error.value) == (
        "a source is a path, an address, a camera's number, an array or an image of Pillow's, got "
        f"{kind}; give several sources one by one, as in detect(*sources)"
    )


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("https://example.org/a/..", "image"),
        ("https://example.org/a%2F..%2Fb%00.jpg", "a_.._b_.jpg"),
        ("rtsp://cam.local:554/", "cam.local_554"),
        ("http://example.org?a=b/c.jpg", "example.org"),
        ("photos/a b.jpg", "photos/a b.jpg"),
    ],
)
def test_what_files_of_an_address_are_called(path, name):
    assert file_name(path) == name


# Images alone ---------------------------------------------------------------------------------------------------------


def test_image_files_alone(folder):
    touch("p/a.jpg", "p/clip.mp4", "b.png", "upload")
    assert find_images(["p", "b.png", "upload"]) == [Path("p/a.jpg"), Path("b.png"), Path("upload")]
    with pytest.raises(DataError, match=r"p/clip\.mp4, p/\*\.mp4 has videos alone, images are wanted here; name"):
        find_images(["p/clip.mp4", "p/*.mp4"])
    with pytest.raises(UsageError, match="webcam:0 is no file, images are wanted as files here; save it to one"):
        find_images(["b.png", "0"])
    with pytest.raises(DataError, match=r"c\.png does not exist"):
        find_images(["c.png"])

"""What kind of video a file is by its bytes, and whether it is all there."""

import io
import os
import struct
from pathlib import Path

import pytest

from visionkit.predict.video_container import START_BYTES, container_of, is_cut_off, is_video_file


def box(kind: bytes, content: bytes = b"", *, said: int | None = None) -> bytes:
    length = 8 + len(content) if said is None else said
    return struct.pack(">I", length) + kind + content


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (box(b"ftyp", b"isom\0\0\0\1"), "MP4"),
        (box(b"ftyp", b"qt  \0\0\0\1"), "MP4"),
        (box(b"moov"), "MP4"),
        (b"RIFF\0\0\0\0AVI LIST", "AVI"),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81", "Matroska"),
        (b"\0\0\x01\xba\x44", "MPEG"),
        ((b"G" + bytes(187)) * 3, "MPEG"),
        ((bytes(4) + b"G" + bytes(187)) * 3, "MPEG"),
        (b"0&\xb2u\x8ef\xcf\x11\xa6\xd9", "ASF"),
        (b"FLV\x01\x05", "FLV"),
        (b"OggS\0", "Ogg"),
        # What is no video: pictures, sound, texts; a playlist would lead to further addresses.
        (b"\xff\xd8\xff\xe0", None),
        (b"\x89PNG\r\n\x1a\n", None),
        (b"RIFF\0\0\0\0WEBPVP8 ", None),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (box(b"ftyp", b"heic\0\0\0\0mif1"), None),
        (box(b"ftyp", b"avif\0\0\0\0mif1"), None),
        (b"#EXTM3U\nhttp://10.0.0.1/secret", None),
        (b"ffconcat version 1.0\nfile /etc/passwd", None),
        (b"GIF89a", None),
        # G, the first letter of a GIF, is the sync byte of a transport stream: one more of them is no proof.
        (b"GIF89a" + bytes(182) + (b"G" + bytes(187)) * 2, None),
        ((b"G" + bytes(187)) * 2 + bytes(188), None),
        ((bytes(4) + b"G" + bytes(187)) * 2 + bytes(192), None),
        (b"G", None),
        (b"", None),
    ],
)
def test_containers_by_their_first_bytes(start: bytes, kind: str | None) -> None:
    assert container_of(start[:START_BYTES]) == kind


def cut_off(data: bytes, kind: str, missing: int = 0) -> bool:
    size = len(data) - missing
    return is_cut_off(io.BytesIO(data[:size]), size, kind)


def test_an_mp4_says_where_its_boxes_end() -> None:
    whole = box(b"ftyp", b"isom") + box(b"moov", bytes(20)) + box(b"mdat", bytes(100))  # 12 + 28 + 108 bytes
    assert not cut_off(whole, "MP4")
    assert cut_off(whole, "MP4", missing=1)
    assert cut_off(whole, "MP4", missing=100)
    # The last box does not even begin: nothing says that there was one.
    assert not cut_off(whole, "MP4", missing=108)


def test_a_box_of_64_bits_and_one_until_the_end() -> None:
    large = struct.pack(">I", 1) + b"mdat" + struct.pack(">Q", 16 + 50) + bytes(50)
    assert not cut_off(large, "MP4")
    assert cut_off(large, "MP4", missing=1)
    assert not cut_off(box(b"ftyp", b"isom") + box(b"mdat", bytes(9), said=0), "MP4")


def test_what_are_no_boxes_is_for_the_decoder_to_say() -> None:
    assert not cut_off(box(b"ftyp", b"isom") + b"\0\0\0\x03nonsense", "MP4")
    # Action and dash cameras append what they measured.
    measured = bytes(7 * i * i % 251 + 1 for i in range(200))
    own = box(b"ftyp", b"isom") + box(b"beam", bytes(9)) + box(b"mdat", bytes(9))
    assert not cut_off(own + measured, "MP4")
    assert cut_off(own, "MP4", missing=1)
    # 200,000 empty boxes, more than anyone needs: not all of them are looked at.
    assert not cut_off(box(b"free") * 200_000 + box(b"mdat", bytes(9)), "MP4", missing=1)


def test_an_avi_says_its_length() -> None:
    # RIFF, a length that counts what follows it, and 12 bytes.
    whole = b"RIFF" + struct.pack("<I", 12) + b"AVI " + bytes(8)
    assert not cut_off(whole, "AVI")
    assert cut_off(whole, "AVI", missing=1)


def test_others_do_not_say() -> None:
    assert not cut_off(b"OggS" + bytes(100), "Ogg", missing=50)


def test_a_file_is_known_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "upload").write_bytes(box(b"ftyp", b"isom"))
    (tmp_path / "clip.mp4").write_text("no")
    assert is_video_file(tmp_path / "upload")
    for path in (tmp_path / "clip.mp4", tmp_path / "missing", tmp_path, Path("a\0b")):
        assert not is_video_file(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert not is_video_file(tmp_path / "pipe.mp4")


def test_a_matroska_file_says_its_length_or_that_it_does_not_know() -> None:
    # A header of 3 bytes, sizes in 1 byte: 0x80 | 3; the segment's in 2: 0x4000 | 200.
    header = b"\x1aE\xdf\xa3\x83abc"
    whole = header + b"\x18\x53\x80\x67" + bytes([0x40, 200]) + bytes(200)
    assert not cut_off(whole, "Matroska")
    assert cut_off(whole, "Matroska", missing=1)
    sent = header + b"\x18\x53\x80\x67\x01" + b"\xff" * 7 + bytes(200)
    assert not cut_off(sent, "Matroska", missing=100)
    assert not cut_off(header + b"something else", "Matroska")
    assert not cut_off(header[:4], "Matroska")

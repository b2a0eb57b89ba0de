"""JPEGs of more scans than pictures have: a few bytes each, and each takes as long as a picture."""

import numpy as np
import pytest
from pictures import encoded, noise

from visionkit.errors import DataError
from visionkit.imaging import jpeg_scans
from visionkit.imaging.reader import decode_image

END = b"\xff\xd9"
WHOLE = encoded(noise(32, 32), "JPEG", progressive=True)
LAST = WHOLE[WHOLE.rindex(b"\xff\xda") : -2]


def with_scans(count: int, between: bytes = b"") -> bytes:
    """The picture, its last scan so often again that there are so many; `between` is put before each of these."""
    scans = WHOLE.count(b"\xff\xda")
    return WHOLE[:-2] + (between + LAST) * (count - scans) + END


@pytest.mark.parametrize(
    "between",
    [
        b"",
        b"\xff\xff\xff",  # before a marker 0xff may stand repeatedly
        b"\xff\xfe\0\x06" + END * 2,  # a comment with what looks like the end of the file
        b"\xff\x01",  # a marker without a length
        b"\xff\xd0\xff\0 nothing",
    ],
)
def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded(between: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    decode_image(with_scans(100, between), "photo.jpg")
    monkeypatch.setattr("visionkit.imaging.reader.cv2.imdecode", lambda *_: pytest.fail("decoded"))
    words = (
        "photo.jpg is a JPEG of more than 100 scans, pictures have about 10 and each takes as long as a picture; "
        "export it again"
    )
    with pytest.raises(DataError) as caught:
        decode_image(with_scans(101, between), "photo.jpg")
    assert str(caught.value) == words


def test_what_is_appended_counts_for_nothing() -> None:
    picture = decode_image(WHOLE, "photo.jpg")
    assert np.array_equal(decode_image(WHOLE + LAST * 200, "photo.jpg"), picture)
    assert not jpeg_scans.has_too_many_scans(b"\xff\xda" * 200, 0)  # segments that go on behind the end

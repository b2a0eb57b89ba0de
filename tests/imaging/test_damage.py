"""Files with wrong bytes: a DataError or a picture of the size that the header says; no crash, no hang, no noise."""

import os
import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
from pictures import files_of_every_kind

from visionkit.errors import DataError
from visionkit.imaging.header import read_header
from visionkit.imaging.reader import decode_image

FILES = 1000


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.timeout(60)
def test_a_thousand_files_with_wrong_bytes() -> None:
    generator = np.random.default_rng(0)
    kinds = list(files_of_every_kind().items())
    read, messages = 0, []
    for number in range(FILES):
        kind, data = kinds[number % len(kinds)]
        damaged = np.frombuffer(data, np.uint8).copy()
        # Half of the damage lies within the first bytes, where sizes and offsets are.
        reach = (40, len(data), 400, len(data))[number // len(kinds) % 4]
        places = generator.integers(0, min(reach, len(data)), generator.integers(1, 5))
        damaged[places] ^= generator.integers(1, 256, len(places)).astype(np.uint8)
        name = f"{kind} {number}"
        try:
            image = decode_image(damaged.tobytes(), name)
        except DataError as refusal:
            messages.append((name, str(refusal)))
            continue
        header = read_header(BytesIO(damaged.tobytes()), name)
        size = (header.height, header.width)
        assert image.shape[:2] == (size[::-1] if header.orientation >= 5 else size), name
        assert image.dtype == np.uint8
        read += 1
    assert all(message.startswith(name) and "\n" not in message for name, message in messages)
    assert min(read, len(messages)) > FILES // 10


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from visionkit.cli.process import silence_image_libraries
silence_image_libraries()
from contextlib import suppress
from pictures import files_of_every_kind
from visionkit.errors import DataError
from visionkit.imaging.reader import decode_image
for kind, data in files_of_every_kind().items():
    if kind.startswith(("BMP", "WebP", "GIF", "TIFF slopes", "TIFF strips")):
        for share in range(1, 10):
            with suppress(DataError):
                decode_image(data[:20] + data[20 : len(data) * share // 10] + bytes(len(data)), kind)
"""


def test_the_command_line_lets_opencv_and_pillow_say_nothing() -> None:
    tests = os.path.dirname(os.path.dirname(__file__))
    done = subprocess.run([sys.executable, "-c", PROGRAM, tests], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

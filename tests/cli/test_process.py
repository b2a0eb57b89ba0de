"""How the command's process ends."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(("end", "code"), [("0", 0), ("3", 3), ("None", 0), ("'too bad'", 1)])
def test_leaving_says_what_was_said_and_does_what_was_left_to_the_end(end: str, code: int) -> None:
    program = f"""
import atexit
from visionkit.cli.process import leave

atexit.register(print, "at exit")
print("said", end=", ")
leave({end})
print("never")
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, "said, at exit\n")
    assert done.stderr == ("too bad\n" if code == 1 else "")


def test_what_nobody_can_read_any_more_changes_no_exit_code() -> None:
    program = "import os; from visionkit.cli.process import leave; print('lost'); os.close(1); leave(3)"
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, env=buffered)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")


@pytest.mark.parametrize(
    ("streams", "said"),
    [
        ("utf-8:strict", b"na\xc3\xafve \\udce9"),
        ("cp1252:strict", b"na\xefve \\udce9"),
        ("utf-8:surrogateescape", b"na\xc3\xafve \xe9"),
    ],
)
def test_any_name_can_be_printed(streams: str, said: bytes) -> None:
    program = "from visionkit.cli.process import print_any_name; print_any_name(); print('na\\xefve \\udce9', end='')"
    environment = {**os.environ, "PYTHONIOENCODING": streams}
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, said, b"")

"""What concerns the whole process: settings that must be made before torch is imported, and its end."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import io
import os
import re
import signal
import sys
import time
import warnings
from types import FrameType
from typing import NoReturn

from visionkit.errors import UsageError

FIRST_SPEAKS = 3.0
"""Seconds that the others wait. torchrun looks ten times a second whether a process has failed."""

# <malloc.h>
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def tune_process() -> None:
    """Make torch on a CPU share the machine politely and keep the memory it will ask for again.

    OpenMP threads that spin long at barriers make everything many times slower as soon as another process, such as one
    that reads images, wants the same core; threads that never spin sleep through the short gaps between layers. And
    glibc gives large blocks back to the system at each free, only to fetch
    them, zeroed page by page, in the next layer. A value that the user has set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    if sys.platform == "linux" and "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        try:
            mallopt = ctypes.CDLL(None).mallopt
        except AttributeError:  # another libc, such as musl
            return
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def silence_image_libraries() -> None:
    """Let OpenCV, its FFmpeg and Pillow not write to stderr what they think of an image or video: the reader says it,
    with the file's name.

    A level that the user has set stays. libjpeg, libpng and libtiff cannot be told.
    """
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # read when cv2 is imported; spawned workers inherit it
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET; read when a video is opened
    warnings.filterwarnings("ignore", module=r"PIL\.")


def print_any_name() -> None:
    """Let stdout escape what its encoding has no letters for, as stderr does, instead of ending the run: file names
    need not be text, and code page 1252 of Windows has few letters. What Python writes byte by byte, stays so."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def leave(code: str | int | None) -> NoReturn:
    """End the process as `sys.exit(code)` does, but leave it to the system to take back memory and libraries.

    Unloading torch piece by piece takes half a second, a quarter of what importing it takes, and 100 MB.
    """
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # it is ending; a handler that raises would only add a traceback
    atexit._run_exitfuncs()  # ends worker processes, removes temporary folders
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # whoever read it has gone, or it is closed
            stream.flush()
    os._exit(code or 0)


def stop_process(number: int, _frame: FrameType | None) -> NoReturn:
    """Ctrl-C and SIGTERM end the process by the usual codes, 130 and 143, through every `finally` on the way."""
    if hasattr(signal, "SIGCHLD"):
        # The signal may have ended the workers too, and torch would make an error of each.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    sys.exit(128 + number)


def let_first_speak() -> None:
    """Before an error is said, in a process that was started beside another here: what is wrong for all is said by the
    first, and whoever started them then ends the others while they wait. What is wrong for one is said later."""
    if os.environ.get("LOCAL_RANK", "0") != "0":
        time.sleep(FIRST_SPEAKS)


def become_several(device: str | None, processes: int = 1) -> None:
    """Where `--device` names several devices, as `cuda:0,1`, or `--processes` asks for more than one, let torchrun take
    this process's place and start them; else, and in those that it started, do nothing.

    Raises:
        UsageError: one of the devices is not here, or there are more or fewer than processes asked for.
    """
    if "LOCAL_RANK" in os.environ:
        return
    if device is not None and re.fullmatch(r"cuda:[0-9]+(,[0-9]+)+", device):
        from visionkit.engine.device import choose_device

        numbers = device.removeprefix("cuda:").split(",")
        if processes not in (1, len(numbers)):
            raise UsageError(f"--device {device} is a process each, {len(numbers)}; leave out --processes {processes}")
        for number in numbers:
            choose_device(f"cuda:{number}")
        processes = len(numbers)
    if processes == 1:
        return
    # torchrun warns where it has to choose; each process is told its threads later.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.stdout.flush()
    sys.stderr.flush()
    launcher = [sys.executable, "-m", "visionkit.cli.launcher", "--standalone", f"--nproc-per-node={processes}"]
    # It would make a temporary folder for logs that no one asked for, and leave it there.
    launcher.append(f"--log-dir={os.devnull}")
    os.execv(sys.executable, [*launcher, "-m", "visionkit", *sys.argv[1:]])

"""Settings of the whole process that must be made before torch is imported."""

from __future__ import annotations

import ctypes
import os
import sys
import warnings

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
    """Let OpenCV and Pillow not write to stderr what they think of an image: the reader says it, with the file's name.

    A level that the user has set stays. libjpeg, libpng and libtiff cannot be told.
    """
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # read when cv2 is imported; spawned workers inherit it
    warnings.filterwarnings("ignore", module=r"PIL\.")

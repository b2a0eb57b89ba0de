"""Where visionkit keeps what it can make or fetch again, and whether it may fetch at all."""

from __future__ import annotations

import os
from pathlib import Path

OFFLINE = "VISIONKIT_OFFLINE"


def cache_folder() -> Path:
    """The folder; `VISIONKIT_CACHE` moves it."""
    return Path(os.environ.get("VISIONKIT_CACHE", Path.home() / ".cache" / "visionkit"))


def offline_by_environment() -> bool:
    """Whether the variable `VISIONKIT_OFFLINE` forbids the network: anything but empty and 0 does."""
    return os.environ.get(OFFLINE, "") not in ("", "0")

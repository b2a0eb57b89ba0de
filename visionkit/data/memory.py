"""How much memory may still be taken: of the machine, and of the container this process is confined to."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

UNKNOWN = 2 * 10**9
"""Bytes taken to be available where the system does not say."""


def available_memory(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that can be taken without swapping.

    On Linux the kernel's estimate (`MemAvailable`), or what the limits of the control groups around this process leave,
    whichever is less; elsewhere half of the machine's memory.

    Args:
        proc, cgroup: where these file systems are mounted.
    """
    machine = _field(proc / "meminfo", "MemAvailable:")
    if machine is None:
        try:
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
        except (AttributeError, ValueError, OSError):  # Windows has no sysconf, others not these names
            return UNKNOWN
    return max(0, min([1024 * machine, *_left_by_groups(proc, cgroup)]))


def processes_here(environment: Mapping[str, str] = os.environ) -> int:
    """How many processes of a run share this machine and its memory: those that torchrun started on it; 1 where it
    started none."""
    return int(environment.get("LOCAL_WORLD_SIZE") or 1)


def reset_peak_memory(proc: Path = Path("/proc")) -> bool:
    """Let `peak_memory` count from now on; False where this system has no such thing."""
    try:
        (proc / "self" / "clear_refs").write_text("5")  # proc(5)
    except OSError:
        return False
    return True


def peak_memory(proc: Path = Path("/proc")) -> int | None:
    """The most bytes that this process has had in memory since `reset_peak_memory`; None where nobody knows."""
    peak = _field(proc / "self" / "status", "VmHWM:")
    return None if peak is None else 1024 * peak


def _left_by_groups(proc: Path, cgroup: Path) -> Iterator[int]:
    """Bytes left by each limit, of cgroup v2 and v1. Cached files do not count as used: the kernel drops them first."""
    for line in _lines(proc / "self" / "cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            root, limit, usage, files = cgroup, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            root = cgroup / "memory"
            limit, usage, files = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        group = root / path.strip("/")
        # The limits of all groups around it hold too. Within a container only the root may be there to be read.
        for folder in (group, *(parent for parent in group.parents if parent.is_relative_to(root))):
            most, used = _field(folder / limit), _field(folder / usage)
            if most is not None and used is not None:
                yield most - used + (_field(folder / "memory.stat", files) or 0)


def _field(file: Path, name: str = "") -> int | None:
    """The number behind `name` in a file, without a name the first word; None where there is none ("max": no limit)."""
    for line in _lines(file):
        words = line.removeprefix(name).split()
        if line.startswith(name) and words and words[0].isdigit():
            return int(words[0])
    return None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []

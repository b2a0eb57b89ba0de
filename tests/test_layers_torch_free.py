"""The rooms without torch: each of their modules is imported where torch, torchvision and albumentations are not there.

The import contract in pyproject.toml reads the code; this runs it, and so sees an import inside another package too.
"""

import subprocess
import sys

import pytest

ROOMS = [
    *("visionkit", "visionkit.errors", "visionkit.classes", "visionkit.result", "visionkit.imaging"),
    *("visionkit.formats", "visionkit.metrics", "visionkit.predict", "visionkit.published", "visionkit.data.sample"),
    "visionkit.proposals",
    *("visionkit.score_map", "visionkit.cli", "visionkit.api.load", "visionkit.api.detect", "visionkit.api.benchmark"),
]

IMPORT_EVERYTHING = """
import importlib, pkgutil, sys


class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "albumentations"}:
            raise ImportError(f"{name} is not for this room")


sys.meta_path.insert(0, Absent())
room = importlib.import_module(sys.argv[1])
print(room.__name__)
if room.__name__ != "visionkit":  # the front door alone, not the house behind it
    for module in pkgutil.walk_packages(getattr(room, "__path__", []), room.__name__ + "."):
        print(importlib.import_module(module.name).__name__)
"""


def import_without_torch(room: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", IMPORT_EVERYTHING, room], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("room", ROOMS)
def test_every_module_of_the_room_is_imported_without_torch(room: str) -> None:
    done = import_without_torch(room)
    assert done.returncode == 0, done.stderr
    assert room in done.stdout.split()


def test_the_guard_guards() -> None:
    done = import_without_torch("visionkit.ops.boxes")
    assert done.returncode != 0
    assert "torch is not for this room" in done.stderr

"""Where the reference datasets lie that some tests judge against. They are not part of the project."""

import os
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("VISIONKIT_REFERENCE_DATA", Path(__file__).parents[2] / "shared" / "data"))


def reference_data(name: str) -> Path:
    """The folder of one reference dataset; skips the calling test, by name, where it is absent."""
    folder = ROOT / name
    if not folder.is_dir():
        pytest.skip(f"reference data {name!r} is not here (set VISIONKIT_REFERENCE_DATA to the folder that holds it)")
    return folder

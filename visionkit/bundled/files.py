"""The model in the box: which files lie beside this one, and that they are those this version was published with."""

from __future__ import annotations

import hashlib
from pathlib import Path

from visionkit.errors import CheckpointError

FOLDER = Path(__file__).parent
NAME = "general-photos-v1"
DEFAULT_WEIGHTS = "default"
"""The name of the bundled model, where a weights file may be given."""
CHECKSUMS = "SHA256SUMS"
"""A line a file, `SHA-256  NAME`, as `sha256sum` writes and checks them."""


def bundled_weights() -> Path | None:
    """The weights that `--weights default` means, or None where this version bundles none.

    Raises:
        CheckpointError: the file is not the one that was published.
    """
    return _checked(f"{NAME}.safetensors")


def bundled_onnx(*, checked: bool = True) -> Path | None:
    """The same model as ONNX, or None. Raises as `bundled_weights`.

    Args:
        checked: False leaves it to the caller to `require_published`, who finds the hash while something else goes on.
    """
    return _checked(f"{NAME}.onnx") if checked else _present(f"{NAME}.onnx")


def bundled_model_card() -> str | None:
    """What the bundled model was trained on, what it scores and where it fails, as Markdown, or None. Raises as
    `bundled_weights`."""
    path = _checked("MODEL_CARD.md")
    return None if path is None else path.read_text(encoding="utf-8")


def checksum_line(path: Path) -> str:
    """What the list of checksums says of a file."""
    return _line(path, hashlib.sha256(path.read_bytes()).hexdigest())


def require_published(path: Path, sha256: str) -> None:
    """Raises CheckpointError where a file with this SHA-256 is not the one of its name that was published."""
    checksums = FOLDER / CHECKSUMS
    if not checksums.exists() or _line(path, sha256) not in checksums.read_text(encoding="utf-8").splitlines():
        raise CheckpointError(
            f"{path} is damaged: its SHA-256 is not the one this version was published with; install visionkit again"
        )


def _line(path: Path, sha256: str) -> str:
    return f"{sha256}  {path.name}"


def _present(name: str) -> Path | None:
    path = FOLDER / name
    return path if path.exists() else None


def _checked(name: str) -> Path | None:
    path = _present(name)
    if path is not None:
        require_published(path, hashlib.sha256(path.read_bytes()).hexdigest())
    return path

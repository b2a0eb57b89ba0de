"""The files in the box: found, absent, and refused where they are not the published ones."""

from collections.abc import Callable
from pathlib import Path

import pytest

from visionkit.bundled import files
from visionkit.bundled.files import bundled_model_card, bundled_onnx, bundled_weights, checksum_line
from visionkit.errors import CheckpointError

WEIGHTS, GRAPH = f"{files.NAME}.safetensors", f"{files.NAME}.onnx"
CONTENT = {WEIGHTS: b"weights", GRAPH: b"graph", "MODEL_CARD.md": b"# Card"}
LARGEST = 16_000_000  # bytes, of the folder as it ships


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A box with three files and their checksums in place of the one that ships."""
    for name, content in CONTENT.items():
        (tmp_path / name).write_bytes(content)
    lines = [checksum_line(tmp_path / name) for name in CONTENT]
    (tmp_path / "SHA256SUMS").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(files, "FOLDER", tmp_path)
    return tmp_path


def test_what_is_there_is_found(folder: Path) -> None:
    assert bundled_weights() == folder / WEIGHTS
    assert bundled_onnx() == folder / GRAPH
    assert bundled_model_card() == "# Card"


def test_what_is_absent_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FOLDER", tmp_path)
    assert bundled_weights() is bundled_onnx() is bundled_model_card() is None


@pytest.mark.parametrize(
    ("find", "name"), list(zip((bundled_weights, bundled_onnx, bundled_model_card), CONTENT, strict=True))
)
def test_one_flipped_bit_is_noticed(find: Callable[[], object], name: str, folder: Path) -> None:
    content = bytearray((folder / name).read_bytes())
    content[3] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        find()
    assert str(error.value) == (
        f"{folder / name} is damaged: its SHA-256 is not the one this version was published with; "
        "install visionkit again"
    )


@pytest.mark.parametrize("line", [None, "", f"{'0' * 64}  {WEIGHTS}"])
def test_a_file_without_its_checksum_is_not_trusted(line: str | None, folder: Path) -> None:
    (folder / "SHA256SUMS").unlink()
    if line is not None:
        (folder / "SHA256SUMS").write_text(line)
    with pytest.raises(CheckpointError, match="is damaged"):
        bundled_weights()


def test_the_checksums_are_those_of_sha256sum(folder: Path) -> None:
    # printf weights | sha256sum
    expected = f"9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c  {WEIGHTS}"
    assert checksum_line(folder / WEIGHTS) == expected


def test_the_files_that_ship_are_whole_and_small() -> None:
    shipped = [path for path in files.FOLDER.iterdir() if path.suffix in (".safetensors", ".onnx", ".md")]
    if not shipped:
        pytest.skip("this version bundles no model")
    assert bundled_weights() is not None
    assert bundled_onnx() is not None
    assert bundled_model_card()
    assert sum(path.stat().st_size for path in files.FOLDER.iterdir() if path.is_file()) <= LARGEST

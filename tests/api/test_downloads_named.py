"""What `doctor` and `compare` take from a server is named first, and offline nothing is taken."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandLine
from published_server import serving

import visionkit
from visionkit.api.doctor import doctor
from visionkit.errors import VisionkitError
from visionkit.published.models import PUBLISHED_MODELS

NAME = "fasterrcnn_mobilenet_v3_large_320_fpn"
WEIGHTS = f"torchvision:{NAME}"


@pytest.mark.parametrize(
    "judge",
    [
        lambda data, say: doctor(data, weights=WEIGHTS, say=say, look_at_images=False),
        lambda data, say: visionkit.compare(WEIGHTS, WEIGHTS, data=data, say=say),
    ],
    ids=["doctor", "compare"],
)
def test_url_size_hash_and_licence_are_said_first(
    judge: Callable[[Path, Callable[[str], None]], Any],
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("VISIONKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VISIONKIT_OFFLINE", raising=False)
    said: list[str] = []
    with serving(b"no network") as server:
        published = server.published()
        monkeypatch.setitem(PUBLISHED_MODELS, NAME, replace(PUBLISHED_MODELS[NAME], file=published))
        with pytest.raises(VisionkitError):
            judge(tiny_data, said.append)
    first = said.index(f"Downloading {server.url}")
    assert f"10 bytes, SHA-256 {published.sha256}" in said[first + 1]
    assert "  licence: made for this test, CC0" in said[first:]


@pytest.mark.parametrize("command", ["doctor", "compare"])
def test_offline_on_the_command_line(command: str, command_line: CommandLine, tiny_data: Path, tmp_path: Path) -> None:
    where = {"doctor": [tiny_data, "--weights", "coco"], "compare": ["coco", "coco", "--data", tiny_data]}[command]
    done = command_line(command, *where, "--offline", folder=tmp_path, VISIONKIT_CACHE=str(tmp_path / "cache"))
    assert done.code == 2
    assert done.error.startswith("weights coco are not in the cache, and --offline forbids to download them; put http")
    assert [path.name for path in tmp_path.iterdir()] == []

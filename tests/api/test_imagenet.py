"""`--weights imagenet`, from a server on this machine that has a randomly initialised torchvision model."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torchvision
from command_line import CommandLine
from published_server import NAME, FileServer, serving
from tiny import tiny_flags, tiny_settings

import visionkit
from visionkit.build import load_model
from visionkit.engine.events import DownloadProgress, Event
from visionkit.errors import CheckpointError, UsageError, VisionkitError
from visionkit.published.weights import IMAGENET


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """It stands for torchvision's, with another ResNet-18."""
    torch.manual_seed(1)
    body = io.BytesIO()
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), body)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("VISIONKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VISIONKIT_OFFLINE", raising=False)
    with serving(body.getvalue()) as server:
        monkeypatch.setitem(IMAGENET, "resnet18", server.published())
        yield server


def test_a_run_starts_from_downloaded_weights_and_may_freeze_them(
    server: FileServer, tiny_data: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    events: list[Event] = []
    settings = tiny_settings(epochs=1, backbone="resnet18", weights="imagenet")
    result = visionkit.finetune(
        tiny_data, freeze=10, out=tmp_path / "run", say=said.append, listen=events.append, **settings
    )
    assert result is not None
    place = tmp_path / "cache" / "weights" / NAME
    first = said.index(f"Downloading {server.url}")
    assert said[first + 3] == "  licence: made for this test, CC0"
    # 62 tensors of parameters and 60 of statistics in ResNet-18, 2 of them its classifier's.
    assert said.index(f"Weights imagenet from {place}:") > first
    assert "  backbone    120 tensors loaded" in said
    assert any(line.startswith("  unused      2 tensors, fc.weight, fc.bias: its classifier") for line in said)
    assert any(line.startswith("Frozen 10 of") for line in said)  # without --force: these are not random
    downloads = [event for event in events if isinstance(event, DownloadProgress)]
    assert downloads[-1] == DownloadProgress(len(server.body), len(server.body))

    published = torch.load(place, weights_only=True)
    trained = load_model(result.last).model.state_dict()
    for name, tensor in published.items():
        if not name.startswith("fc."):
            assert torch.equal(trained[f"backbone.{name}"], tensor), name  # frozen: still the published bytes
    transfer = json.loads((result.folder / "transfer.json").read_text())
    assert (transfer["weights"], transfer["unused"]) == ("imagenet", ["fc.weight", "fc.bias"])
    assert "weights: imagenet" in (result.folder / "config.yaml").read_text()
    assert f"Downloading {server.url}" in (result.folder / "log.txt").read_text()

    visionkit.finetune(tiny_data, dry_run=True, offline=True, **settings)  # now it is in the cache
    assert len(server.asked) == 1


def test_the_head_is_as_fresh_as_without_them_and_freezing_it_is_refused(server: FileServer, tiny_data: Path) -> None:
    settings = tiny_settings(epochs=1, backbone="resnet18", weights="imagenet")
    with pytest.raises(UsageError, match="freezing randomly initialised weights"):
        visionkit.finetune(tiny_data, freeze="neck*", dry_run=True, **settings)


def test_a_download_that_fails_leaves_no_run(server: FileServer, tiny_data: Path, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(VisionkitError, match="was refused: 404 Not Found"):
        visionkit.finetune(
            tiny_data, out=tmp_path / "run", **tiny_settings(backbone="resnet18", weights="imagenet")
        )  # fmt: skip
    assert not (tmp_path / "run").exists()
    assert list((tmp_path / "cache" / "weights").iterdir()) == []


@pytest.mark.parametrize("how", ["option", "variable"])
def test_offline_on_the_command_line(how: str, command_line: CommandLine, tiny_data: Path, tmp_path: Path) -> None:
    flags = tiny_flags(weights="imagenet", backbone="resnet18", data=tiny_data, out=tmp_path / "run")
    done = command_line(
        "finetune",
        *flags,
        *(["--offline"] if how == "option" else []),
        VISIONKIT_CACHE=str(tmp_path / "cache"),
        VISIONKIT_OFFLINE="1" if how == "variable" else "",
    )
    assert done.code == 2
    url = "https://download.pytorch.org/models/resnet18-f37072fd.pth"
    assert done.error.endswith(
        f"forbids to download them; put {url} there by hand, as {tmp_path}/cache/weights/resnet18-f37072fd.pth"
    )
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_resumed_may_be_told_to_stay_offline(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no whole training state"):  # not that it takes no other settings
        visionkit.finetune(resume=tmp_path, offline=True)


def test_a_backbone_without_published_weights(command_line: CommandLine, tiny_data: Path, tmp_path: Path) -> None:
    done = command_line("finetune", *tiny_flags(weights="imagenet", data=tiny_data), folder=tmp_path)
    assert done.code == 2
    assert done.error.startswith("weights imagenet are not published for backbone csp-light, they are for alexnet, ")

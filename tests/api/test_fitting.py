"""R-CNN from the command line: fitted on proposals, evaluated, used; and what has no meaning for it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from command_line import CommandLine

import visionkit
from tests.tiny import write_blocks
from visionkit.build import build_model, load_model
from visionkit.choices import Choices
from visionkit.classes import ClassTable
from visionkit.config import Recipe
from visionkit.engine.events import Event, ImagesDone
from visionkit.errors import ConfigError, UsageError

SETTINGS = {"model": "rcnn", "imgsz": 64, "threads": 1, "workers": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blocks(tmp_path_factory.mktemp("rcnn") / "blocks", {"train": 8, "val": 4})


@pytest.fixture(scope="module")
def proposals(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Boxes near each object and in a grid, as a file a split."""
    folder = tmp_path_factory.mktemp("found")
    for split in ("train", "val"):
        content = json.loads((data / "annotations" / f"{split}.json").read_text())
        random = np.random.default_rng(0)
        rows = [
            {"image_id": row["image_id"], "bbox": (np.array(row["bbox"]) + random.integers(-2, 3, 4)).tolist()}
            for row in content["annotations"]
            for _ in range(6)
        ]
        grid = [(x, y) for x in range(0, 48, 8) for y in range(0, 40, 8)]
        rows += [{"image_id": image["id"], "bbox": [x, y, 14, 14]} for image in content["images"] for x, y in grid]
        (folder / f"{split}.json").write_text(json.dumps(rows))
    return folder


def test_fits_evaluates_and_is_saved(data: Path, proposals: Path, tmp_path: Path) -> None:
    said: list[str] = []
    heard: list[Event] = []
    given = [f"proposals={proposals}"]
    result = visionkit.finetune(
        data, out=tmp_path / "run", set=given, say=said.append, listen=heard.append, max_images=5, **SETTINGS
    )
    assert result is not None
    assert (result.epochs, result.best_epoch) == (0, 0)
    # 5 of 8, evenly spread.
    spoken = "\n".join(said)
    assert re.search(
        r"^Fitting rcnn/csp-light at 64 px on cpu .*: on 5 images, proposals out of .*, regions w", spoken, re.M
    )
    assert re.search(r"^Fitted on 5 images: \d+ proposals, \d+ objects$", spoken, re.M)
    assert re.search(r"^Took reading images [\d.]+ s, .* SVMs [\d.]+ s, .*: [\d.]+ s an image$", spoken, re.M)
    assert heard == [
        *(ImagesDone("fitting on", number, 5) for number in range(1, 6)),
        *(ImagesDone("evaluating", number, 4) for number in range(1, 5)),
    ]
    scores = visionkit.evaluate(result.best, data, proposals=proposals / "val.json", workers=0)
    assert result.scores["AP"] == scores.AP
    assert scores.AP50 is not None
    assert scores.AP50 > 0.5
    assert result.best.read_bytes() == result.last.read_bytes()
    row = json.loads((result.folder / "metrics.jsonl").read_text())
    assert row["AP"] == result.scores["AP"]
    assert row["seconds_features"] > 0
    loaded = load_model(result.best)
    assert (loaded.name, loaded.recipe.train.batch) == ("rcnn/csp-light", 1)
    assert loaded.classes.names == ("red block", "blue block")


def test_the_config_file_of_a_run_is_that_run_again(data: Path, proposals: Path, tmp_path: Path) -> None:
    first = visionkit.finetune(data, out=tmp_path / "first", set=[f"proposals={proposals}"], **SETTINGS)
    assert first is not None
    again = visionkit.finetune(config=first.folder / "config.yaml", out=tmp_path / "again")
    assert again is not None
    assert again.best.read_bytes() == first.best.read_bytes()


def test_what_has_no_meaning_for_a_model_that_is_fitted(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(UsageError, match=r"is fitted in a single pass .* no use for --epochs; leave it out"):
        visionkit.finetune(data, epochs=3, out=out, **SETTINGS)
    with pytest.raises(UsageError, match=r"no use for --minutes, --lr, --augment; leave them out"):
        visionkit.finetune(data, minutes=3, augment="light", set=["train.lr=0.1"], out=out, **SETTINGS)
    with pytest.raises(UsageError, match=r"rcnn learns no features, and those of a random backbone tell little; give"):
        visionkit.finetune(data, weights="scratch", out=out, **SETTINGS)
    with pytest.raises(UsageError, match=r"model yolo learns from all images, --max-images is for one that is fitted"):
        visionkit.finetune(data, max_images=5, out=out, **(SETTINGS | {"model": "yolo"}))
    assert not out.exists()


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_weight_of_a_loss_that_is_not_there_is_refused_before_anything_is_done(
    data: Path, tmp_path: Path, dry_run: bool
) -> None:
    weighed, settings = ["train.loss_weights.boxx=2"], SETTINGS | {"model": "yolo", "weights": "scratch", "epochs": 1}
    with pytest.raises(ConfigError, match=r"_weights has 'boxx', the losses of this model are class, box, distributio"):
        visionkit.finetune(data, set=weighed, out=tmp_path / "run", dry_run=dry_run, **settings)
    assert list(tmp_path.iterdir()) == []


def test_without_scikit_image_it_says_so_before_anything_is_done(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from visionkit.proposals import segments

    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(segments, "import_module", absent)
    with pytest.raises(UsageError, match=r"needs the package scikit-image, which is not installed; install it by: pip"):
        visionkit.finetune(data, out=tmp_path / "run", **SETTINGS)
    with pytest.raises(UsageError, match=r"needs the package scikit-image"):
        visionkit.propose(data, tmp_path / "proposals")
    assert list(tmp_path.iterdir()) == []


def test_by_selective_search_from_the_command_line(data: Path, command_line: CommandLine, tmp_path: Path) -> None:
    pytest.importorskip("skimage", reason="scikit-image is not installed: pip install 'visionkit[rcnn]'")
    run = tmp_path / "run"
    settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
    fitted = command_line("finetune", "--data", data, "--out", run, *settings)
    assert fitted.code == 0, fitted.stderr
    assert fitted.stdout.startswith("Fitted: AP ")
    assert "proposals by selective search, regions warped to 96 px" in fitted.stderr
    best = run / "best.safetensors"
    judged = command_line("evaluate", "--weights", best, "--data", data, "--json")
    assert judged.code == 0, judged.stderr
    assert judged.json["AP"] == json.loads((run / "metrics.jsonl").read_text())["AP"]
    found = command_line(
        "detect", data / "images" / "val_0.png", "--weights", best, "--conf", "0.05", "--json", "--no-save"
    )
    assert found.code == 0, found.stderr
    assert found.json["model"]["name"] == "rcnn/csp-light"


def test_the_side_of_warped_regions_is_a_choice() -> None:
    table = ClassTable((3,), ("cell",))
    assert build_model(Recipe(model="rcnn"), table).warp == 96
    assert build_model(Recipe(model="rcnn", warp=64), table).warp == 64
    with pytest.raises(ConfigError, match=r"model yolo has no option warp; leave warp at own"):
        build_model(Recipe(warp=64), table)
    for wrong in (100, 0, 1024, "large"):
        choices = Choices()
        choices.say({"warp": wrong}, "set")
        with pytest.raises(
            ConfigError, match=r"warp = .*: input should be 'own', or pixels from 32 to 512 that 32 divi"
        ):
            choices.config()

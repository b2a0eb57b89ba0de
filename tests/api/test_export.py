"""`visionkit.export`: the graph, its certificate, and what is refused."""

import json
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from masks import write_masks
from sure_models import CLASSES, pictures, sure_model
from tiny import TinyRun, learnt_in_tiles

import visionkit
from visionkit.api import export as job
from visionkit.api.export_comparison import comparison
from visionkit.build import load_model, save_calibrated, save_model
from visionkit.data.sample import render_sample
from visionkit.errors import DataError, UsageError, VisionkitError
from visionkit.exporting.onnx_file import write_onnx
from visionkit.imaging.letterbox import letterbox
from visionkit.metrics.classification import ClassificationScores
from visionkit.metrics.mean_iou import SegmentationScores
from visionkit.predict.graph import GraphCard
from visionkit.predict.open_graph import open_graph
from visionkit.predict.tiling import Tiling
from visionkit.predict.writers import save_picture
from visionkit.score_map import ScoreMap, score_map_of

ONNX = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")), reason="ONNX is not installed"
)


WORTH = ScoreMap("platt", scale=0.5, shift=-0.25)


@pytest.fixture(scope="module")
def weights(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated copy in a folder of its own: exports lie beside it."""
    path = tmp_path_factory.mktemp("weights") / "mine.safetensors"
    save_calibrated(path, load_model(tiny_run.result.best), WORTH)
    return path


@pytest.fixture(scope="module")
def exported(weights: Path, tiny_data: Path) -> job.Exported:
    return visionkit.export(weights, data=tiny_data, threads=1)


@pytest.fixture
def quick(exported: job.Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracing takes seconds: the graph that was written already is taken."""
    monkeypatch.setattr(job, "write_onnx", lambda model, card, path: shutil.copy(exported.path, path))


@ONNX
def test_the_graph_lies_beside_the_weights_and_scores_the_same(
    exported: job.Exported, weights: Path, tiny_data: Path
) -> None:
    assert exported.path == weights.with_name("mine.onnx")
    assert exported.size == exported.path.stat().st_size
    assert exported.certificate_path == weights.with_name("mine.certificate.json")
    assert {path.name for path in weights.parent.iterdir()} == {weights.name, "mine.onnx", "mine.certificate.json"}
    said = json.loads(exported.certificate_path.read_text())
    assert said == exported.certificate.to_json()
    assert str(weights.parent) not in json.dumps(said)
    scores = visionkit.evaluate(weights, tiny_data, amp=False, threads=1, workers=0)
    assert said["metrics"]["AP"]["model"] == scores.AP
    assert said["metrics"]["AP"]["export"] == pytest.approx(scores.AP, abs=1e-6)
    assert said["passed"]
    assert (said["images"], said["real"], said["precision"]) == (4, True, "fp32")
    assert said["facts"]["matched"] > 0
    assert said["facts"]["unmatched"] == 0
    # The runtime that has no torch finds what PyTorch finds.
    image = tiny_data / "images" / "val_0.png"
    ours = visionkit.load(weights, device="cpu", threads=1, exact=True).detect(image)[0]
    theirs = visionkit.load(exported.path, threads=1).detect(image)[0]
    assert len(theirs) == len(ours) > 0
    assert theirs.boxes == pytest.approx(ours.boxes, abs=0.01)
    # And knows as well what a score is worth.
    for found in (ours, theirs):
        assert found.confidences == pytest.approx(WORTH(found.scores), abs=1e-6)
    assert theirs.confidences == pytest.approx(ours.confidences, abs=1e-4)


@ONNX
@pytest.mark.usefixtures("quick")
def test_without_data_it_is_compared_on_pictures_and_says_which(weights: Path, tiny_data: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    of_images = visionkit.export(weights, images=tiny_data / "images", out=tmp_path / "a.onnx", threads=1)
    # Every other one of 16: the others are for INT8.
    assert (of_images.certificate.on, of_images.certificate.images) == ("images of images", 8)
    assert of_images.certificate.real
    assert of_images.certificate.metrics == {}
    rendered = visionkit.export(weights, out=tmp_path / "b.onnx", threads=1, say=lines.append)
    assert rendered.certificate.on == "pictures that visionkit renders, not real ones"
    assert not rendered.certificate.real
    # It knows red and blue blocks, and is sure of nothing here: what it is most sure of is compared.
    assert 0 < rendered.certificate.facts["least_score"] < 0.05
    assert rendered.certificate.facts["detections_of_model"] > 0
    assert "No --data or --images given: comparing on pictures that visionkit renders, which are not real" in lines


@ONNX
@pytest.mark.usefixtures("quick")
def test_of_real_pictures_too_what_the_model_is_most_sure_of_is_compared(weights: Path, tmp_path: Path) -> None:
    """No picture has its red and blue blocks."""
    pictures = render_sample(tmp_path / "sample", images={"val": 4}) / "images"
    said = visionkit.export(weights, images=pictures, out=tmp_path / "a.onnx", threads=1).certificate
    assert (said.real, said.images, said.passed) == (True, 2, True)
    assert 0 < said.facts["least_score"] < 0.05
    assert said.facts["detections_of_model"] > 0
    silent = load_model(weights)
    for name, parameter in silent.model.named_parameters():
        if "class_predictors" in name:
            parameter.data.fill_(-1000.0 if name.endswith("bias") else 0.0)
    save_model(tmp_path / "silent.safetensors", silent.model, silent.classes, silent.recipe, {})
    with pytest.raises(DataError, match=r"finds nothing at any score in images of images, .*; give other pictures"):
        visionkit.export(tmp_path / "silent.safetensors", images=pictures, threads=1)
    assert not list(tmp_path.glob("silent.*onnx"))


@ONNX
def test_exports_in_both_formats_lie_side_by_side(
    exported: job.Exported, weights: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(source: Path, path: Path) -> None:
        for part in (path, path.with_suffix(".bin")):
            shutil.copy(exported.path, part)

    # What OpenVINO would do.
    monkeypatch.setattr(job, "check_openvino", lambda: None)
    monkeypatch.setattr(job, "write_onnx", lambda model, card, path: None)
    monkeypatch.setattr(job, "write_openvino", write)
    monkeypatch.setattr(job, "open_graph", lambda path, **options: open_graph(exported.path, **options))
    other = visionkit.export(weights, format="openvino", images=tiny_data / "images", threads=1)
    names = ["mine.xml", "mine.bin", "mine.openvino.certificate.json"]
    assert [other.path.name, other.certificate_path.name] == [names[0], names[2]]
    for name in names:  # for the other tests of this folder
        weights.with_name(name).unlink()
    assert exported.certificate_path.exists()


@ONNX
@pytest.mark.usefixtures("quick")
def test_a_model_that_learnt_from_tiles_is_compared_in_them(
    weights: Path, exported: job.Exported, tiny_data: Path, tmp_path: Path
) -> None:
    tiled = learnt_in_tiles(weights, tmp_path / "tiled.safetensors")
    said = visionkit.export(tiled, data=tiny_data, threads=1).certificate
    in_tiles, whole = (
        visionkit.evaluate(tiled, tiny_data, tile=tile, amp=False, threads=1, workers=0).AP for tile in (None, 0)
    )
    assert said.metrics["AP"] == (pytest.approx(in_tiles, abs=1e-6), pytest.approx(in_tiles, abs=1e-6))
    assert said.metrics["AP"][0] != pytest.approx(whole, abs=1e-6)
    assert said.on == "the val split of data, the larger ones in tiles of 48 px, as trained"
    assert (said.images, said.passed) == (4, True)
    # What a look finds must have its counterpart, whether or not it gives way when the looks are put together.
    assert said.facts["matched"] > 2 * exported.certificate.facts["matched"]
    card = json.dumps(job.card_of(load_model(tiled)))
    assert GraphCard.read(card, tiled).tiling == Tiling(48, 0.25)


def test_eight_bits_are_measured_on_images_as_the_model_sees_them(tiny_run: TinyRun, tmp_path: Path) -> None:
    shapes = ((64, 30), (64, 28), (64, 64), (40, 80), (40, 80), (40, 80), (40, 80), (40, 80))
    # Every other file is compared on and not measured on.
    for number, (height, width) in enumerate(shape for shape in shapes for _ in range(2)):
        save_picture(tmp_path / f"{number:02}.png", pictures(1, height, width)[0])
    batches = [*comparison(load_model(tiny_run.result.best), None, tmp_path, tmp_path, lambda line: None).measured()]
    assert [batch.shape for batch in batches] == [(2, 64, 32, 3), (1, 64, 64, 3), (4, 32, 64, 3), (1, 32, 64, 3)]


def test_eight_bits_are_measured_on_one_look_at_each_image(tiny_run: TinyRun, tmp_path: Path) -> None:
    images = pictures(7, 64, 64)
    for number, image in enumerate(images):
        save_picture(tmp_path / f"{number}.png", image)
    loaded = load_model(tiny_run.result.best)
    whole = comparison(loaded, None, tmp_path, tmp_path, lambda line: None)
    np.testing.assert_array_equal(np.concatenate([*whole.measured()]), images[::2])
    loaded = replace(loaded, recipe=loaded.recipe.model_copy(update={"tile": 48, "overlap": 0.25}))
    tiled = comparison(loaded, None, tmp_path, tmp_path, lambda line: None)
    # Of 64 x 64 px four tiles, and the image itself: the first four images show a tile each.
    corners = ((0, 0), (0, 16), (16, 0), (16, 16))
    parts = [image[y : y + 48, x : x + 48] for image, (y, x) in zip(images[::2], corners, strict=True)]
    np.testing.assert_array_equal(next(tiled.measured()), [letterbox(part, 64)[0] for part in parts])
    assert (tiled.count, sum(1 for _ in tiled.pictures())) == (3, 3)


@ONNX
def test_a_segmenter_has_the_mean_iou_of_both(tmp_path: Path) -> None:
    model, recipe = sure_model("fcn8s", model="fcn32s", backbone="alexnet", imgsz=64)
    save_model(tmp_path / "mine.safetensors", model, CLASSES, recipe, {})
    # The masks have the labels 0, 1 and 2; classes are known by name, and not in this order.
    data = write_masks(tmp_path / "data", {"val": 3}, names=("dog", "car", "cat"))
    said = visionkit.export(tmp_path / "mine.safetensors", data=data, threads=1).certificate
    scores = visionkit.evaluate(tmp_path / "mine.safetensors", data, amp=False, threads=1, workers=0)
    assert isinstance(scores, SegmentationScores)
    assert 0 < scores.mIoU < 1
    assert said.metrics == {
        "mIoU": (scores.mIoU, pytest.approx(scores.mIoU, abs=1e-4)),
        "pixel_accuracy": (scores.pixel_accuracy, pytest.approx(scores.pixel_accuracy, abs=1e-4)),
    }
    assert (said.on, said.images, said.facts["pixels"]) == ("the val split of data", 3, 3 * 64 * 64)
    assert said.passed
    assert "mIoU " in said.table()


@ONNX
def test_a_classifier_has_the_accuracy_of_both(tmp_path: Path) -> None:
    model, recipe = sure_model("classifier", imgsz=32)
    with torch.no_grad():
        model.get_submodule("head.linear").weight.mul_(300)  # so sure that most classes have a score of 0
    save_model(tmp_path / "mine.safetensors", model, CLASSES, recipe, {})
    for label, name in enumerate(("cat", "car", "dog")):
        for i in range(3):
            save_picture(tmp_path / "data" / "val" / name / f"{i}.png", pictures(1, 32, 32, seed=3 * label + i)[0])
    said = visionkit.export(tmp_path / "mine.safetensors", data=tmp_path / "data", threads=1).certificate
    scores = visionkit.evaluate(tmp_path / "mine.safetensors", tmp_path / "data", amp=False, threads=1, workers=0)
    assert isinstance(scores, ClassificationScores)
    assert said.metrics == {"accuracy": (scores.accuracy,) * 2, "f1": (scores.f1,) * 2}
    assert (said.images, said.facts["other_best_class"], said.passed) == (9, 0, True)


@ONNX
@pytest.mark.usefixtures("quick")
def test_eight_bits_are_measured_on_the_train_split(weights: Path, tiny_data: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    try:
        found = visionkit.export(
            weights, int8=True, data=tiny_data, out=tmp_path / "a.onnx", threads=1, say=lines.append
        ).certificate.to_json()
    except VisionkitError:  # a model of ten pictures may lose more than it may: what was measured counts here
        found = json.loads((tmp_path / "a.out-of-tolerance.certificate.json").read_text())
    assert found["precision"] == "int8"
    assert found["calibration"] == "up to 128 images of the train split of data"
    assert f"Measuring ranges on {found['calibration']}" in lines
    assert found["facts"]["largest_score_difference"] > 1e-4
    assert found["metrics"]["AP"]["export"] == pytest.approx(found["metrics"]["AP"]["model"], abs=0.2)
    assert found["tolerance"] == {"unmatched": 0.1, "score": None, "iou": None, "metric": 0.01}


@ONNX
@pytest.mark.usefixtures("quick")
def test_a_graph_out_of_tolerance_is_kept_under_a_name_that_says_so(
    weights: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "FP32", replace(job.FP32, iou=1.1))  # more than equal
    with pytest.raises(VisionkitError) as error:
        visionkit.export(weights, data=tiny_data, out=tmp_path / "a.onnx", threads=1)
    kept = tmp_path / "a.out-of-tolerance.onnx"
    assert str(error.value).startswith("the export does not say what its model says (matched boxes overlap by only ")
    assert str(error.value).endswith(f"; it is kept as {kept}")
    assert error.value.exit_code == 1
    assert "OUT OF TOLERANCE: matched boxes overlap" in error.value.__notes__[0]
    assert {path.name for path in tmp_path.iterdir()} == {kept.name, "a.out-of-tolerance.certificate.json"}
    assert not json.loads((tmp_path / "a.out-of-tolerance.certificate.json").read_text())["passed"]


@ONNX
def test_a_graph_of_other_weights_is_found_out(
    weights: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(model: object, card: object, path: Path) -> None:
        other = load_model(weights).model
        for name, parameter in other.named_parameters():
            if "side_predictors" in name:
                parameter.data *= 0.9
        write_onnx(other, card, path)  # type: ignore[arg-type]

    monkeypatch.setattr(job, "write_onnx", wrong)
    with pytest.raises(VisionkitError, match="the export does not say what its model says"):
        visionkit.export(weights, data=tiny_data, out=tmp_path / "a.onnx", threads=1)


def test_options_that_are_off_are_refused_before_any_work(weights: Path, tmp_path: Path) -> None:
    for options, words in (
        ({"format": "tflite"}, "there is no format 'tflite' to export to; choose one of onnx, openvino"),
        (
            {"data": "a", "images": "b"},
            "--data and --images both say what to compare on, one of them does; leave out --images",
        ),
        (
            {"int8": True},
            "INT8 is measured on pictures such as the model will see; give them by --data or --images",
        ),
    ):
        with pytest.raises(UsageError) as error:
            visionkit.export(weights, **options)
        assert str(error.value) == words


@ONNX
def test_the_file_to_write_must_be_new_and_named_as_it_is(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "there.onnx").touch()
    (tmp_path / "b.certificate.json").touch()
    (tmp_path / "c.out-of-tolerance.onnx").touch()
    (tmp_path / "d.out-of-tolerance.certificate.json").touch()
    for name, words in (
        ("there.onnx", f"{tmp_path}/there.onnx exists and nothing is overwritten; give another --out"),
        ("b.onnx", f"{tmp_path}/b.certificate.json exists and nothing is overwritten; give another --out"),
        ("c.onnx", f"{tmp_path}/c.out-of-tolerance.onnx exists and nothing is overwritten; give another --out"),
        (
            "d.onnx",
            f"{tmp_path}/d.out-of-tolerance.certificate.json exists and nothing is overwritten; give another --out",
        ),
        ("a.pt", f"{tmp_path}/a.pt is not named .onnx, as onnx files are; name it {tmp_path}/a.onnx"),
        ("no/a.onnx", f"folder {tmp_path}/no does not exist, the export is written to it; make it first"),
    ):
        with pytest.raises(UsageError) as error:
            visionkit.export(weights, out=tmp_path / name)
        assert str(error.value) == words


@ONNX
@pytest.mark.usefixtures("quick")
def test_of_two_exports_to_one_file_the_later_is_refused(
    weights: Path, exported: job.Exported, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(model: object, card: object, path: Path) -> None:
        shutil.copy(exported.path, path)
        (tmp_path / "a.onnx").write_bytes(b"the other's")

    monkeypatch.setattr(job, "write_onnx", late)
    with pytest.raises(UsageError, match=r"a\.onnx exists and nothing is overwritten; give another --out"):
        visionkit.export(weights, images=tiny_data / "images", out=tmp_path / "a.onnx", threads=1)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.onnx": b"the other's"}


@ONNX
def test_a_folder_that_cannot_be_written_to(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**where: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryDirectory", full)
    with pytest.raises(VisionkitError) as error:
        visionkit.export(weights, out=tmp_path / "a.onnx")
    assert str(error.value) == (
        f"{tmp_path}/a.onnx cannot be written (No space left on device), results are saved there; free space or "
        "choose another folder"
    )


def test_what_scores_are_worth_goes_along(weights: Path) -> None:
    loaded = load_model(weights)
    assert score_map_of(job.card_of(loaded)) == WORTH
    assert "calibration" not in job.card_of(replace(loaded, score_map=None))

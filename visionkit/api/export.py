"""A trained model as a file for other runtimes, and the proof that it says the same."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from visionkit.api.evaluate import counted_images
from visionkit.api.export_comparison import BATCH, Comparison, Picture, comparison
from visionkit.api.weights import find_model
from visionkit.build import LoadedModel
from visionkit.engine.device import use_threads
from visionkit.engine.evaluate import EVALUATION_MAX_DET, EVALUATION_SCORE
from visionkit.engine.events import Listener
from visionkit.engine.torch_backend import TorchBackend
from visionkit.errors import DataError, UsageError, VisionkitError
from visionkit.exporting.certificate import Certificate, complaints_of
from visionkit.exporting.int8 import write_int8
from visionkit.exporting.onnx_file import about, check_exportable, check_packages, write_onnx
from visionkit.exporting.openvino_file import check_openvino, write_openvino
from visionkit.exporting.parity import FP32, INT8, LEAST_SCORE, parity_of
from visionkit.exporting.scoring import Scoring
from visionkit.exporting.side_by_side import Compared, Heard
from visionkit.predict.backend import Backend
from visionkit.predict.detect import LoadedImage, detect_loaded
from visionkit.predict.open_graph import ONNX, OPENVINO, open_graph
from visionkit.predict.tiling import Tiling
from visionkit.predict.writers import named_errors
from visionkit.result import Result

Format = Literal["onnx", "openvino"]
SUFFIXES: dict[Format, str] = {"onnx": ONNX, "openvino": OPENVINO}

OUT_OF_TOLERANCE = "out-of-tolerance"
"""In the name of a file that does not say what its model says."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote.

    Args:
        path: the graph; of OpenVINO the .xml, beside which the .bin lies.
        certificate_path: of the certificate as JSON.
        size: bytes of the graph.
    """

    path: Path
    certificate_path: Path
    certificate: Certificate
    size: int


def export(
    weights: str | Path = "default",
    *,
    format: Format = "onnx",
    int8: bool = False,
    data: str | Path | None = None,
    images: str | Path | None = None,
    out: str | Path | None = None,
    threads: int = 0,
    offline: bool = False,
    listen: Listener = lambda event: None,
    say: Callable[[str], None] = lambda line: None,
) -> Exported:
    """Write a model as an ONNX or OpenVINO graph, with a parity certificate beside it.

    Normalisation and suppression are inside the graph, letterboxing is not; thresholds are inputs; batches and images
    of any size that the model's stride divides. The certificate compares model and graph in fp32 on the val split of
    `data`, and their AP too; or on `images`; or else on pictures that visionkit renders, which are not real. Of a model
    that learnt from tiles both see larger pictures in them.

    Args:
        weights: a .safetensors file of visionkit; `default`, the bundled model; `coco` or `torchvision:NAME`.
        format: `onnx`, or `openvino`, which needs the package of that name.
        int8: convolutions of backbone and neck in eight bits, with ranges measured on the train split of `data`, or on
            every other one of `images`.
        data: dataset folder or YAML file; see `find_dataset`.
        images: a folder, glob or list file.
        out: the file to write; beside the weights, or in the current folder for those of no file, where None.
        threads: CPU threads; 0 leaves the runtimes' choice.
        offline: never use the network.
        listen: told how far downloads and comparison are.
        say: told what is compared on.

    Raises:
        UsageError: an option is off, a file is there already, a package is missing, or the model cannot be a graph.
        CheckpointError, DataError: a file is missing or broken, or the model does not know each class of the data, or
            finds nothing to compare.
        VisionkitError: the graph does not say what the model says; it is kept under a name with `out-of-tolerance`. Or
            nothing can be written where it goes.
    """
    _check_options(format, int8, data, images)
    check_packages()
    if format == "openvino":
        check_openvino()
    loaded = find_model(weights, offline=offline, listen=listen, say=say)
    check_exportable(loaded.model, f"{loaded.path}, a {loaded.recipe.model},")
    target = _target(weights, loaded.path, format, int8, out)
    use_threads(threads)
    with _scratch(target) as scratch:
        compared = comparison(loaded, data, images, scratch, say)
        written = _write(loaded, compared, scratch, format, int8, say)
        certificate = _certify(loaded, written, compared, int8, threads, listen)
        size = sum(part.stat().st_size for part in _parts(written))
        final = target if certificate.passed else _failed(target)
        certificate_path = _certificate_path(final)
        with named_errors(final):
            certificate.write(scratch / "certificate.json")
            _check_new(target)  # another export may have come first meanwhile
            for part in _parts(written):
                os.replace(part, final.with_suffix(part.suffix))
            os.replace(scratch / "certificate.json", certificate_path)
    if not certificate.passed:
        error = VisionkitError(
            f"the export does not say what its model says ({'; '.join(certificate.complaints)}); it is kept as {final}"
        )
        error.add_note(certificate.table())
        raise error
    return Exported(final, certificate_path, certificate, size)


def _check_options(format: str, int8: bool, data: object, images: object) -> None:
    if format not in SUFFIXES:
        raise UsageError(f"there is no format {format!r} to export to; choose one of {', '.join(get_args(Format))}")
    if data is not None and images is not None:
        raise UsageError("--data and --images both say what to compare on, one of them does; leave out --images")
    if int8 and data is None and images is None:
        raise UsageError("INT8 is measured on pictures such as the model will see; give them by --data or --images")


def _target(weights: str | Path, path: Path, format: Format, int8: bool, out: str | Path | None) -> Path:
    """Where the graph goes.

    Raises:
        UsageError: a file is there already, or the name has another suffix.
    """
    suffix = SUFFIXES[format]
    name = f"{path.stem}{'.int8' if int8 else ''}{suffix}"
    target = Path(out) if out is not None else path.with_name(name) if Path(weights) == path else Path(name)
    if target.suffix != suffix:
        raise UsageError(f"{target} is not named {suffix}, as {format} files are; name it {target.with_suffix(suffix)}")
    if not target.parent.is_dir():
        raise UsageError(f"folder {target.parent} does not exist, the export is written to it; make it first")
    _check_new(target)
    return target


def _check_new(target: Path) -> None:
    """Raises UsageError where one of the files is there already that an export may write."""
    for path in (target, _failed(target)):
        for file in (*_parts(path), _certificate_path(path)):
            if file.exists():
                raise UsageError(f"{file} exists and nothing is overwritten; give another --out")


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """A folder beside the file for what is made on the way to it, gone afterwards.

    Raises:
        VisionkitError: nothing can be written there.
    """
    with named_errors(target):
        folder = tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-")
    with folder as name:
        yield Path(name)


def _failed(path: Path) -> Path:
    """Where a graph goes that does not say what its model says."""
    return path.with_name(f"{path.stem}.{OUT_OF_TOLERANCE}{path.suffix}")


def _parts(path: Path) -> list[Path]:
    """The files of a graph."""
    return [path, path.with_suffix(".bin")] if path.suffix == OPENVINO else [path]


def _certificate_path(path: Path) -> Path:
    """Where its certificate goes: both formats of one model may lie in a folder."""
    return path.with_name(f"{path.stem}{'.openvino' if path.suffix == OPENVINO else ''}.certificate.json")


def card_of(loaded: LoadedModel) -> dict[str, Any]:
    """What a graph of a model says of itself."""
    card = about(
        loaded.model,
        name=loaded.name,
        classes=loaded.classes,
        image_size=loaded.recipe.imgsz,
        sha256=loaded.sha256,
        recipe=loaded.recipe.model_dump(mode="json"),
    )
    return card if loaded.score_map is None else {**card, "calibration": loaded.score_map.to_json()}


def _write(
    loaded: LoadedModel, compared: Comparison, scratch: Path, format: Format, int8: bool, say: Callable[[str], None]
) -> Path:
    say(f"Exporting {loaded.name} to {format}{' in INT8' if int8 else ''}")
    path = scratch / "fp32.onnx"
    write_onnx(loaded.model, card_of(loaded), path)
    if int8:
        say(f"Measuring ranges on {compared.measured_on}")
        path, source = scratch / "int8.onnx", path
        write_int8(source, path, compared.measured())
    if format == "openvino":
        path, source = scratch / "graph.xml", path
        write_openvino(source, path)
    return path


def _certify(
    loaded: LoadedModel, written: Path, compared: Comparison, int8: bool, threads: int, listen: Listener
) -> Certificate:
    side = loaded.recipe.imgsz
    model = TorchBackend(
        loaded.model,
        loaded.classes,
        image_size=side,
        device=torch.device("cpu"),
        amp=False,
        name=loaded.name,
        sha256=loaded.sha256,
        exact=True,
    )
    graph = open_graph(written, image_size=side, threads=threads, amp=False)
    least = _least_score(model, compared, loaded.tiling) if loaded.model.task == "detect" else LEAST_SCORE
    parity = parity_of(
        loaded.model.task,
        iou=card_of(loaded)["iou"],
        most=EVALUATION_MAX_DET,
        least=least,
    )
    score, most = min(EVALUATION_SCORE, least / 2), EVALUATION_MAX_DET
    if loaded.model.task == "classify":  # every class is compared, however unlikely
        score, most = 0.0, len(loaded.classes)
    heard = Heard(model, graph.frame_multiple)
    beside = Compared(graph, heard, parity)
    sides: list[tuple[Backend, Scoring | None]] = [(beside, None)]  # which asks the model itself
    if compared.sides is not None:
        ours, theirs = compared.sides
        sides = [(heard, ours), (beside, theirs)]
    count = counted_images(compared.count, listen)
    pictures = compared.pictures()
    while group := list(islice(pictures, BATCH)):
        for backend, scoring in sides:
            results = _results(backend, group, loaded.tiling, score=score, max_det=most)
            for picture, result in zip(group, results, strict=True):
                if scoring is not None:
                    scoring.add(result, picture.id, picture.label)
        count(len(group))
    metrics: dict[str, tuple[float | None, float | None]] = {}
    if compared.sides is not None:
        of_model, of_graph = (scoring.metrics() for scoring in compared.sides)
        metrics = {name: (value, of_graph[name]) for name, value in of_model.items()}
    tolerance = INT8 if int8 else FP32
    return Certificate(
        model=loaded.name,
        weights_sha256=loaded.sha256,
        export_sha256=hashlib.sha256(_parts(written)[-1].read_bytes()).hexdigest(),
        runtime=graph.runtime,
        precision="int8" if int8 else "fp32",
        on=compared.on,
        real=compared.real,
        images=compared.count,
        facts=parity.facts(),
        metrics=metrics,
        calibration=compared.measured_on if int8 else None,
        tolerance=tolerance,
        complaints=complaints_of(parity, metrics, tolerance),
    )


def _least_score(model: Backend, compared: Comparison, tiling: Tiling | None) -> float:
    """From which score on detections are compared: of pictures that it was not made for a model may be nowhere sure,
    and half of its best score is low enough for something to compare. It is asked until it is sure.

    Raises:
        DataError: it finds nothing at all.
    """
    best = 0.0
    for found in _results(model, compared.pictures(), tiling, score=0.0, max_det=1):
        best = max(best, float(found.scores.max(initial=0.0)))
        if best >= 2 * LEAST_SCORE:
            return LEAST_SCORE
    if best == 0:
        raise DataError(
            f"the model finds nothing at any score in {compared.on}, its export is compared on what it finds; give "
            "other pictures"
        )
    return best / 2


def _results(
    backend: Backend, pictures: Iterable[Picture], tiling: Tiling | None, *, score: float, max_det: int
) -> Iterator[Result]:
    """What a side says of pictures that it sees as the model learnt to, by the code that `detect` runs."""
    images = (LoadedImage("", picture.pixels) for picture in pictures)
    found = detect_loaded(backend, images, score=score, max_det=max_det, batch=BATCH, tiling=tiling)
    return (result for _, result in found)

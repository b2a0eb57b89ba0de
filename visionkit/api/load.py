"""A trained model made ready to look at pictures, in the runtime that its file is for.

Exported graphs, and the bundled model, run without PyTorch, and it is imported only for models that need it: that
takes several times as long as all that detection in a picture does.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from visionkit.api.detect import Detector
from visionkit.bundled.files import DEFAULT_WEIGHTS, bundled_onnx, require_published
from visionkit.errors import CheckpointError, UsageError
from visionkit.predict.open_graph import GRAPHS, OPENVINO, open_graph

if TYPE_CHECKING:
    from visionkit.engine.events import Listener


def load(
    weights: str | Path = "default",
    *,
    device: str = "auto",
    imgsz: int | None = None,
    threads: int = 0,
    amp: bool | None = None,
    exact: bool = False,
    why: bool = False,
    offline: bool = False,
    listen: Listener = lambda event: None,
    say: Callable[[str], None] = lambda line: None,
) -> Detector:
    """The model of a file that `finetune` or `export` wrote, or another one by its name.

    A .onnx file is run by ONNX Runtime, on the CPU and in the numbers it was exported in; a .xml file by OpenVINO; a
    .safetensors file, and every published model, by PyTorch. The bundled model is run by ONNX Runtime unless something
    is asked for that only PyTorch does: a device other than the CPU, `amp`, `exact`, `why`, or an image size that its
    graph does not take.

    In PyTorch it runs in fewer layers than it learnt in: batch norms are folded into the convolutions before them,
    which changes results by rounding alone. bf16 changes them more. `evaluate` folds nothing; `exact` gives what it
    gives in fp32.

    Args:
        weights: the file; `default`, the bundled model; `coco` or `torchvision:NAME`, a published one, which is
            downloaded where it is not here.
        device: auto, cpu, cuda, cuda:N or mps; of a graph, and so of the bundled model, auto is the CPU.
        imgsz: side of the square network input in pixels; as trained where None.
        threads: CPU threads; 0 leaves the runtime's choice.
        amp: bf16 where the hardware has it, or fp32; as trained where None.
        exact: fp32, layer by layer as in training.
        why: make it a model that can tell why, for `detect(..., why=True)`.
        offline: never use the network.
        listen: told how far a download is.
        say: told what is downloaded before it is, and why the bundled model runs in PyTorch where it does.

    Raises:
        CheckpointError: missing, damaged or not visionkit's.
        UsageError: the device or the runtime is not here, the model does not take such images, or options do not go
            together, or not with this model.
        VisionkitError: weights cannot be downloaded.
    """
    if exact and amp:
        raise UsageError("exact means fp32 and amp asks for bf16; leave one of them out")
    suffix = Path(weights).suffix.lower()
    asked = _only_in_torch(device, None if suffix == OPENVINO else amp, exact, why)
    if suffix in GRAPHS:
        if asked:
            raise UsageError(
                f"{asked} is for models in PyTorch, {weights} is an exported graph; leave it out, or give the "
                ".safetensors file that it was exported from"
            )
        return _graph(Path(weights), imgsz, threads, amp)
    if str(weights) == DEFAULT_WEIGHTS:
        graph = bundled_onnx(checked=False)
        if graph is not None and _is_installed("onnxruntime"):
            if not asked:
                try:
                    return _bundled_graph(graph, imgsz, threads)
                except UsageError:
                    if not _is_installed("torch"):
                        raise
                    asked = "" if imgsz is None else f"image size {imgsz}"  # else ONNX Runtime itself is broken
            if asked and _is_installed("torch"):
                say(f"The bundled model runs in PyTorch, for {asked}")
    _require_torch(weights, asked)
    return _in_torch(
        weights,
        device=device,
        imgsz=imgsz,
        threads=threads,
        amp=amp,
        exact=exact,
        offline=offline,
        listen=listen,
        say=say,
    )


def _only_in_torch(device: str, amp: bool | None, exact: bool, why: bool) -> str:
    """What is asked for that only models in PyTorch do, in a word; empty where nothing is."""
    if device not in ("auto", "cpu"):
        return f"device {device}"
    return next((name for name, is_asked in {"exact": exact, "why": why, "amp": amp}.items() if is_asked), "")


def _graph(path: Path, imgsz: int | None, threads: int, amp: bool | None) -> Detector:
    _use_threads(threads)
    backend = open_graph(path, image_size=imgsz, threads=threads, amp=amp)
    return Detector(backend, backend.task, backend.card.tiling)


def _bundled_graph(path: Path, imgsz: int | None, threads: int) -> Detector:
    """Raises CheckpointError where the file is not the one that was published, and as `open_graph`."""
    try:
        detector = _graph(path, imgsz, threads, amp=None)
    except CheckpointError:
        bundled_onnx()  # that it is damaged says more than what of it cannot be read
        raise
    require_published(path, detector.backend.sha256)
    return detector


def _use_threads(count: int) -> None:
    """For what happens to images outside of the network; 0 leaves OpenCV its own choice."""
    if count:
        import cv2  # noqa: PLC0415 - imported with the first image, in any case

        cv2.setNumThreads(count)


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):  # it is kept from being imported
        return False


def _require_torch(weights: str | Path, asked: str) -> None:
    if _is_installed("torch"):
        return
    if asked:
        raise UsageError(
            f"{asked} needs PyTorch, which is not installed here; leave it out, or install torch and torchvision"
        )
    raise UsageError(
        f"weights {weights} are run by PyTorch, which is not installed here; install torch and torchvision, or give a "
        "graph that visionkit export wrote"
    )


def _in_torch(
    weights: str | Path,
    *,
    device: str,
    imgsz: int | None,
    threads: int,
    amp: bool | None,
    exact: bool,
    offline: bool,
    listen: Listener,
    say: Callable[[str], None],
) -> Detector:
    # PyTorch, and all that imports it.
    from visionkit.api.weights import find_model  # noqa: PLC0415
    from visionkit.engine.device import choose_device, use_threads  # noqa: PLC0415
    from visionkit.engine.torch_backend import TorchBackend  # noqa: PLC0415

    use_threads(threads)
    where = choose_device(device)
    loaded = find_model(weights, offline=offline, listen=listen, say=say)
    return Detector(
        TorchBackend(
            loaded.model,
            loaded.classes,
            image_size=loaded.image_size(imgsz),
            device=where,
            amp=False if exact else loaded.recipe.train.amp if amp is None else amp,
            name=loaded.name,
            sha256=loaded.sha256,
            exact=exact,
            score_map=loaded.score_map,
        ),
        loaded.model.task,
        loaded.tiling,
    )

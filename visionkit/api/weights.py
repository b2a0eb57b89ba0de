"""What `--weights` names: a file, the bundled model, or one that torchvision publishes, downloaded when asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from visionkit.build import LoadedModel, load_model, load_published
from visionkit.engine.events import DownloadProgress, Listener
from visionkit.errors import CheckpointError, UsageError
from visionkit.models.forms import FORM_PARTS
from visionkit.predict.open_graph import GRAPHS
from visionkit.published.download import published_file
from visionkit.published.models import COCO_WEIGHTS, PUBLISHED_MODELS, TORCHVISION, is_published

COCO_MODEL = "faster-rcnn"
"""What `coco` is weights of where no one names a model."""

PICKLED = (".pt", ".pth", ".ckpt", ".pkl")
"""Suffixes of files that can run code when they are read, and are not."""


def find_model(
    weights: str | Path,
    *,
    model: str | None = None,
    backbone: str | None = None,
    auxiliary: bool = False,
    offline: bool = False,
    listen: Listener = lambda event: None,
    say: Callable[[str], None] = lambda line: None,
) -> LoadedModel:
    """The model that weights name, with them in it.

    Args:
        weights: a .safetensors file of visionkit, `default`, `coco`, or `torchvision:NAME`.
        model, backbone: what `coco` has to fit, where someone named them.
        auxiliary: whether a published segmenter has its auxiliary head, to learn on.
        offline: never use the network; so does the variable `VISIONKIT_OFFLINE`.
        listen: told how far a download is.
        say: told what is downloaded, from where and under which licence, before it is.

    Raises:
        UsageError: there are no such weights, or they are not here and the network must not be used.
        CheckpointError: missing, damaged, or not what it is called.
        VisionkitError: they cannot be downloaded.
    """
    if not is_published(weights):
        _check_kind(Path(weights))
        return load_model(weights)
    name = published_name(str(weights), model, backbone)
    path = published_file(
        f"weights {weights}",
        PUBLISHED_MODELS[name].file,
        offline=offline,
        say=say,
        progress=lambda done, total: listen(DownloadProgress(done, total)),
    )
    return load_published(name, path, auxiliary=auxiliary)


def _check_kind(path: Path) -> None:
    """Raises CheckpointError where a file is of a kind that is no model in PyTorch here."""
    suffix = path.suffix.lower()
    if suffix in GRAPHS:
        raise CheckpointError(
            f"{path} is an exported graph, this is for models in PyTorch; give the .safetensors file that it was "
            "exported from"
        )
    if suffix in PICKLED and path.is_file():
        raise CheckpointError(
            f"{path} may be pickled, and what reads such a file can be made to run code, so it is not read; give the "
            "best.safetensors of a run, coco, or torchvision:NAME"
        )


def published_name(weights: str, model: str | None = None, backbone: str | None = None) -> str:
    """The name among `PUBLISHED_MODELS` that `coco` or `torchvision:NAME` means.

    Args:
        model, backbone: what `coco` has to fit, where someone named them.

    Raises:
        UsageError: there is none.

    >>> published_name("coco"), published_name("coco", backbone="mobilenetv3-large")
    ('fasterrcnn_resnet50_fpn', 'fasterrcnn_mobilenet_v3_large_fpn')
    """
    if weights != COCO_WEIGHTS:
        name = weights.removeprefix(TORCHVISION)
        if name not in PUBLISHED_MODELS:
            raise UsageError(f"weights {weights} are not known; the names are {', '.join(PUBLISHED_MODELS)}")
        return name
    wanted = model or COCO_MODEL
    fitting = {name: of for name, (form_of, of) in FORM_PARTS.items() if form_of == wanted}
    if not fitting:
        models = ", ".join(dict.fromkeys(form_of for form_of, _ in FORM_PARTS.values()))
        raise UsageError(
            f"weights coco are not published for model {wanted}, they are for {models}; name one of these by --model, "
            "or give other weights"
        )
    for name, of in fitting.items():
        if backbone in (None, of):
            return name
    raise UsageError(
        f"weights coco are not published for {wanted}/{backbone}, they are for {wanted} on "
        f"{', '.join(dict.fromkeys(fitting.values()))}; name one of these by --backbone, or give other weights"
    )

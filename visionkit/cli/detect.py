"""`visionkit detect`: what a model sees in pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visionkit.cli.options import Debug, Device, ImageSize, Json, Threads
from visionkit.cli.progress import say
from visionkit.errors import UsageError

if TYPE_CHECKING:
    from visionkit.errors import DataError
    from visionkit.result import Result


def detect(
    source: Annotated[list[str] | None, typer.Argument(help="Images, folders, globs.")] = None,
    source_: Annotated[list[str] | None, typer.Option("--source", help="The same, as an option.")] = None,
    weights: Annotated[str, typer.Option(help="A .safetensors file.")] = "default",
    conf: Annotated[float, typer.Option("--conf", "--conf-thres", help="Lowest score shown.")] = 0.25,
    iou: Annotated[float, typer.Option("--iou", "--iou-thres", help="NMS: overlap at which the worse box goes.")] = 0.7,
    max_det: Annotated[int, typer.Option(help="Most detections an image.")] = 300,
    classes: Annotated[str | None, typer.Option(help="Names to look for, separated by commas.")] = None,
    imgsz: ImageSize = None,
    device: Device = None,
    threads: Threads = None,
    save: Annotated[bool, typer.Option(help="Write annotated pictures and a COCO results file.")] = True,
    out: Annotated[Path | None, typer.Option(help="Folder for them; a new one under runs/detect.")] = None,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Detect objects in images, folders and globs: a line an image, the annotated pictures, a COCO results file.

    With --json, stdout is JSON lines, one Result an image.

    Example: [bold]visionkit detect photos/*.jpg --weights runs/finetune/my-data-1/best.safetensors[/bold]
    """
    sources = [*(source or ()), *(source_ or ())]
    if not sources:
        raise UsageError("detect needs at least one image, folder or glob; for example: visionkit detect image.jpg")
    if weights == "default":
        raise UsageError("this version bundles no model; give one of yours by --weights FILE")
    from visionkit.api import detect as job
    from visionkit.predict.sources import find_images
    from visionkit.predict.writers import write_json_line

    if out is not None and out.exists() and not (out.is_dir() and not any(out.iterdir())):
        fact = "is not empty" if out.is_dir() else "is a file"
        raise UsageError(f"{out} {fact} and nothing is overwritten; give another --out")
    skipped: list[Path] = []

    def show(result: Result) -> None:
        if json_:
            write_json_line(sys.stdout, result)
        else:
            typer.echo(result_table(result))

    def skip(path: Path, error: DataError) -> None:
        skipped.append(path)
        say(f"skipped: {error}")

    detector = job.load(weights, device=device or "auto", imgsz=imgsz, threads=threads or 0)
    paths = find_images(sources)
    count, folder = job.detect(
        detector,
        paths,
        conf=conf,
        iou=iou,
        max_det=max_det,
        classes=None if classes is None else [name.strip() for name in classes.split(",")],
        save=save,
        out=out,
        on_result=show,
        on_skip=skip,
    )
    if folder is not None and count:
        say(f"Pictures and results.json: {folder}")
    if skipped:
        say(f"{count} images done, {len(skipped)} skipped")
        raise typer.Exit(3 if count else 1)


def result_table(result: Result) -> str:
    """A line of the image, `photos/bus.jpg  810x1080  3 person, 1 bus  24 ms`, and a row a detection."""
    objects = ", ".join(f"{n} {name}" for name, n in result.counts().items()) or "nothing found"
    time = sum(result.milliseconds.values())
    lines = [f"{result.path}  {result.width}x{result.height}  {objects}  {time:.0f} ms"]
    width = max(len(name) for name in result.classes.names)
    for label, score, box in zip(result.labels, result.scores, result.boxes, strict=True):
        corners = " ".join(f"{v:7.1f}" for v in box)
        lines.append(f"  {result.classes.names[label]:<{width}}  {score:.2f}  {corners}")
    return "\n".join(lines)

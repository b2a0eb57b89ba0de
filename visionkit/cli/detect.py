"""`visionkit detect`: what a model sees in pictures."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visionkit.cli.loaded import loaded_model, say_trained_tiles
from visionkit.cli.options import (
    USED_WEIGHTS_HELP,
    Amp,
    Debug,
    Device,
    ImageSize,
    Json,
    Offline,
    Overlap,
    Threads,
    Tile,
)
from visionkit.cli.progress import say
from visionkit.counted import counted
from visionkit.errors import UsageError

if TYPE_CHECKING:
    from visionkit.errors import DataError
    from visionkit.predict.video_source import Moment
    from visionkit.result import Result


def detect(
    source: Annotated[
        list[str] | None,
        typer.Argument(
            help="Images, videos, folders, globs, lists (.txt, a path a line), URLs (http, https, rtsp), webcam:0, "
            "- for standard input."
        ),
    ] = None,
    source_: Annotated[list[str] | None, typer.Option("--source", help="The same, as an option.")] = None,
    weights: Annotated[str, typer.Option(help=USED_WEIGHTS_HELP)] = "default",
    conf: Annotated[float, typer.Option("--conf", "--conf-thres", help="Lowest score shown.")] = 0.25,
    iou: Annotated[
        float | None,
        typer.Option(
            "--iou",
            "--iou-thres",
            help="NMS: overlap at which the worse box goes; the model's: 0.7 of yolo, 0.5 of the R-CNN family.",
        ),
    ] = None,
    max_det: Annotated[int, typer.Option(help="Most detections an image.")] = 300,
    classes: Annotated[
        str | None, typer.Option(help="Names to look for, separated by commas; one with a comma in double quotes.")
    ] = None,
    imgsz: ImageSize = None,
    tile: Tile = None,
    overlap: Overlap = None,
    device: Device = None,
    threads: Threads = None,
    amp: Amp = None,
    every: Annotated[int, typer.Option(min=1, help="Of a video, see every n-th frame.")] = 1,
    exact: Annotated[bool, typer.Option("--exact", help="fp32, layer by layer as in training; slower.")] = False,
    format_: Annotated[
        list[str] | None,
        typer.Option(
            "--format", help="Write what is found as json, coco, yolo, csv, labelme, cvat, masks or crops; repeatable."
        ),
    ] = None,
    crops: Annotated[
        bool, typer.Option("--crops", help="Also save each detection as a picture, in a folder per class.")
    ] = False,
    save: Annotated[bool, typer.Option(help="Write annotated pictures.")] = True,
    why: Annotated[
        bool, typer.Option("--why", help="Say where each box came from and what removed those that are not shown.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for all that is written; a new one under runs/detect, or runs/segment and so on."),
    ] = None,
    allow_private_urls: Annotated[
        bool, typer.Option("--allow-private-urls", help="Also read URLs of this machine and its private networks.")
    ] = False,
    offline: Offline = False,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Detect objects in images and videos: a line an image, annotated pictures and videos, files of detections.

    With --json, stdout is JSON lines, one Result an image. Files are whole after every image, also if interrupted:

    json  detections.jsonl: a Result an image, as --json prints them.

    coco  results.json: category_id, bbox, score; image_id is the image's place among the sources, file_name its path.

    yolo  NAME.txt: a line a box: label, centre x y, width, height as shares of the image, score; of a mask of one part
    label, x y of each point of a polygon, score; classes.txt: names.

    csv   detections.csv: a row a box, with a header; of a calibrated model with a column confidence.

    labelme  labelme/: the pictures, each with a LabelMe file: boxes, or masks as polygons; scores in the key score.

    cvat  cvat/: the pictures and annotations.xml, CVAT for images 1.1; scores as the attribute score.

    crops  crops/CLASS/NAME-PLACE.jpg: each detection cut out; the same as --crops.

    A list (images.txt) has a path or a URL a line, paths relative to the list; # starts a comment.

    Of a video each frame is an image, clip.mp4#frame=12&t=0.480; with --every N each n-th. The annotated video is an
    MP4 of the same size and speed, written frame by frame. Cameras (webcam:0) and streams (rtsp, or MJPEG over http) go
    on until Ctrl-C, each time with their newest frame; the video is closed then, and plays.

    A URL is read up to 100 MB, of a video 2 GB, and 5 minutes, and refused where its host is at no public address,
    unless --allow-private-urls is given.

    With --tile, what is larger than a tile is seen in overlapping tiles at full resolution: for small objects in large
    images. Detections of all tiles, and of the whole image, are put together; of an object that a tile cuts, the whole
    one stays. A model that learnt from tiles sees them without being told to; --tile 0 sees images whole.

    A fast-rcnn, which learnt from files of proposals, is shown what selective search finds in each picture.

    With --why, each candidate of the model is told: the cell, anchor and proposal it came from, its logit and score,
    and whether it was kept, which box suppressed it at which IoU, or which limit it did not pass. Pictures show what
    was suppressed in thin lines; with --json, and in detections.jsonl, each Result has the key "why".

    A source that is not there, a folder or glob without images, ends it before anything is looked at: exit code 2. What
    is broken, cut off or missing from a list is named and skipped: exit code 3, or 2 where nothing could be read.

    Example: [bold]visionkit detect photos/*.jpg --weights runs/finetune/my-data-1/best.safetensors[/bold]

    Example: [bold]visionkit detect images.txt --format csv --format yolo --no-save --out found[/bold]

    Example: [bold]visionkit detect clip.mp4 webcam:0 https://example.org/photo.jpg --every 2 --json[/bold]
    """
    sources = named_sources("detect", source, source_)
    from visionkit.classes import listed_names
    from visionkit.cli.video_progress import video_progress
    from visionkit.predict.json_writer import write_json_line
    from visionkit.predict.output_formats import DEFAULT_FORMATS, chosen_formats
    from visionkit.predict.sources import find_sources
    from visionkit.predict.tiling import chosen_tiling

    # What can be refused without torch is refused before it is imported.
    _check_new(out)
    chosen_formats(format_ or [], task=None)
    chosen_tiling(tile, overlap)
    found = find_sources(sources)
    from visionkit.api import detect as job

    folders: list[Path] = []
    skipped: list[Path | str] = []
    seen: Counter[str] = Counter()
    legends: dict[str, None] = {}  # each once, in order

    def show(result: Result) -> None:
        seen["images"] += 1
        if json_:
            write_json_line(sys.stdout, result)
        else:
            typer.echo(result_table(result))
            if result.why is not None:
                from visionkit.predict.why_tables import why_legend, why_table

                typer.echo(why_table(result.why))
                legends[why_legend(result.why)] = None

    def skip(name: Path | str, error: DataError) -> None:
        skipped.append(name)
        say(f"skipped: {error}")

    detector = loaded_model(
        weights, device=device, imgsz=imgsz, threads=threads, amp=amp, offline=offline, exact=exact, why=why
    )
    say_trained_tiles(detector, tile)
    formats = format_ or ([DEFAULT_FORMATS[detector.task]] if save else [])
    formats = [*formats, *(["crops"] if crops else [])]
    files = [chosen.files for chosen in chosen_formats(formats, detector.task)]
    try:
        with video_progress() as show_progress:

            def note(moment: Moment) -> None:
                seen["frames"] += 1
                show_progress(moment)

            count = job.detect(
                detector,
                found,
                conf=conf,
                iou=iou,
                max_det=max_det,
                classes=None if classes is None else listed_names(classes),
                tile=tile,
                overlap=overlap,
                why=why,
                every=every,
                allow_private_urls=allow_private_urls,
                offline=offline,
                save=save,
                formats=formats,
                out=out,
                on_folder=folders.append,
                on_frame=note,
                on_result=show,
                on_skip=skip,
            )
    finally:  # also where the process is told to stop: what was written stays
        for words in filter(None, legends):
            say(words)
        for folder in folders:
            say(f"{listed([*(_pictures(seen) if save else []), *files])}: {folder}")
    if skipped:
        say(f"{counted(count, 'image')} done, {len(skipped)} skipped")
        raise typer.Exit(3 if count else 2)


def named_sources(command: str, *given: Sequence[str] | None) -> list[str]:
    """What a command is to look at, as arguments and as options. Raises UsageError where that is nothing."""
    sources = [name for names in given for name in names or ()]
    if not sources:
        raise UsageError(
            f"{command} needs at least one image, folder, glob or list; for example: visionkit {command} image.jpg"
        )
    return sources


def _check_new(out: Path | None) -> None:
    """Raises UsageError where the folder is a file or holds something."""
    if out is not None and out.exists() and not (out.is_dir() and not any(out.iterdir())):
        fact = "is not empty" if out.is_dir() else "is a file"
        raise UsageError(f"{out} {fact} and nothing is overwritten; give another --out")


def _pictures(seen: Counter[str]) -> list[str]:
    """What was drawn on, in words, of so many images, some of them frames."""
    moving = seen["frames"] > 0
    still = seen["images"] > seen["frames"] or not moving
    return [*(["Pictures"] if still else []), *(["Videos"] if moving else [])]


def listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def result_table(result: Result) -> str:
    """A line of the image, `photos/bus.jpg  810x1080  3 person, 1 bus  24 ms`, and a row a detection; of a calibrated
    model with the share that is right of those with such a score, `person  0.87   93%`."""
    if result.task == "classify":
        return _class_table(result)
    if result.task == "segment":
        return _area_table(result)
    objects = ", ".join(f"{n} {name}" for name, n in result.counts().items()) or "nothing found"
    time = sum(result.milliseconds.values())
    lines = [f"{result.path}  {result.width}x{result.height}  {objects}  {time:.0f} ms"]
    width = max(len(name) for name in result.classes.names)
    shares = [""] * len(result) if result.confidences is None else [f"  {c:4.0%}" for c in result.confidences]
    for label, score, share, box in zip(result.labels, result.scores, shares, result.boxes, strict=True):
        corners = " ".join(f"{v:7.1f}" for v in box)
        lines.append(f"  {result.classes.names[label]:<{width}}  {score:.2f}{share}  {corners}")
    return "\n".join(lines)


def _class_table(result: Result) -> str:
    """A line of the image with its best class, `photos/cat.jpg  640x480  cat 0.97  24 ms`, and a row a further one."""
    answers = [
        f"{result.classes.names[label]} {score:.2f}" for label, score in zip(result.labels, result.scores, strict=True)
    ]
    best, time = answers[0] if answers else "nothing found", sum(result.milliseconds.values())
    first = f"{result.path}  {result.width}x{result.height}  {best}  {time:.0f} ms"
    return "\n".join([first, *(f"  {answer}" for answer in answers[1:])])


def _area_table(result: Result) -> str:
    """A line of the image, `photos/bus.jpg  810x1080  4 classes  24 ms`, and a row a class: share and pixels."""
    from visionkit.predict.maps import class_pixels

    many = f"{len(result)} class{'es' * (len(result) != 1)}"
    time = sum(result.milliseconds.values())
    lines = [f"{result.path}  {result.width}x{result.height}  {many}  {time:.0f} ms"]
    width = max(len(name) for name in result.classes.names)
    assert result.semantic is not None
    counts = class_pixels(result.semantic)
    for label, share in zip(result.labels, result.scores, strict=True):
        lines.append(f"  {result.classes.names[label]:<{width}}  {share:7.2%}  {counts[label]:>10,} px")
    return "\n".join(lines)

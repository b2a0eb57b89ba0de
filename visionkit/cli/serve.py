"""`visionkit serve`: a model behind HTTP, and a page to try it in."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

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
from visionkit.errors import UsageError

LARGEST = 1_000_000
"""Of megabytes, seconds or pictures: nobody needs so many, and what is larger by far fits no integer."""


def serve(
    weights: Annotated[str, typer.Option(help=USED_WEIGHTS_HELP)] = "default",
    host: Annotated[str, typer.Option(help="Address to listen at; others than 127.0.0.1 let others in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0: a free one.")] = 8000,
    imgsz: ImageSize = None,
    tile: Tile = None,
    overlap: Overlap = None,
    device: Device = None,
    threads: Threads = None,
    amp: Amp = None,
    batch: Annotated[int, typer.Option(min=1, help="Most pictures that the model is handed at once.")] = 8,
    queue: Annotated[int, typer.Option(min=1, help="Most pictures that wait; more are refused with 503.")] = 64,
    max_upload: Annotated[float, typer.Option(min=0.001, help="Largest request, in megabytes.")] = 20,
    max_pixels: Annotated[float, typer.Option(min=0.001, help="Largest picture, in millions of pixels.")] = 50,
    upload_timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that a request may take to arrive.")] = 30,
    answer_timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that it may then take to be answered.")] = 60,
    sample: Annotated[Path | None, typer.Option(help="Picture that the page offers to try.")] = None,
    offline: Offline = False,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Answer over HTTP what a model sees in pictures, and show a page to try it in.

    POST /v1/detect    a picture, as a file of a form or in base64 in JSON, with conf, iou, max_det and classes

    GET  /v1/models    the model and its classes

    GET  /healthz      whether pictures are taken

    GET  /docs         all of it explained; /openapi.json for programs

    GET  /             the page

    Pictures that come together are looked at together. Too many, too large and too slow ones are refused, with a code
    and a line that says why. Ctrl-C and SIGTERM end it when those who already ask are answered. With --json, stdout is
    one line, {"url", "model", "task"}, once requests are taken.

    With --tile, and of a model that learnt from tiles, a larger picture takes about as many times as long as it has
    tiles.

    There is no password and no TLS: it listens on this machine alone unless --host says otherwise.

    Example: [bold]visionkit serve --weights runs/finetune/my-data-1/best.safetensors --port 8080[/bold]

    Example: [bold]curl -F image=@photo.jpg -F conf=0.4 http://127.0.0.1:8000/v1/detect[/bold]
    """
    from visionkit.serve.server import check_installed, is_loopback, listen, server_of, url_of

    # What can be refused without a model is refused before one is loaded.
    check_installed()
    from visionkit.imaging.header import MAX_PIXELS
    from visionkit.predict.tiling import chosen_tiling
    from visionkit.serve.app import Served, make_app
    from visionkit.serve.batching import warm_up
    from visionkit.serve.limits import Limits
    from visionkit.serve.sample import own_sample, sample_for

    chosen_tiling(tile, overlap)
    _check_most("--max-pixels", max_pixels, MAX_PIXELS // 1_000_000)
    _check_most("--max-upload", max_upload)
    _check_most("--upload-timeout", upload_timeout)
    _check_most("--answer-timeout", answer_timeout)
    _check_most("--batch", batch)
    pixels = round(max_pixels * 1e6)
    upload_bytes = round(max_upload * 1e6)
    limits = Limits(
        upload_bytes=upload_bytes,
        held_bytes=max(Limits().held_bytes, upload_bytes),
        pixels=pixels,
        decoded_pixels=max(Limits().decoded_pixels, pixels),
        queue=queue,
        batch=batch,
        upload_seconds=upload_timeout,
        answer_seconds=answer_timeout,
    )
    own = None if sample is None else own_sample(sample)
    with listen(host, port) as listening:
        detector = loaded_model(weights, device=device, imgsz=imgsz, threads=threads, amp=amp, offline=offline)
        tiling = detector.tiling_for(tile, overlap)
        say_trained_tiles(detector, tile)
        warm_up(detector.backend)

        def tell(error: Exception) -> None:
            if debug:
                traceback.print_exception(error)
            say(f"error: {' '.join(f'{type(error).__name__}: {error}'.split())}; a request was answered with 500")

        options = _options({"--imgsz": imgsz, "--tile": tile, "--overlap": overlap}, amp)
        served = Served(detector.backend, detector.task, Path(weights).name, tiling, options)
        app = make_app(served, limits=limits, sample=own or sample_for(detector.classes), on_error=tell)
        url = url_of(listening)
        if not is_loopback(listening):
            say(
                f"warning: {host} can be reached from other machines, and there is no password and no TLS; "
                "leave --host out, or put a proxy with both in front"
            )
        many = f"{len(detector.classes)} class{'es' * (len(detector.classes) != 1)}"
        say(f"{served.backend.name} ({served.task}, {many}) answers at {url}; Ctrl-C ends it")
        if json_:
            typer.echo(json.dumps({"url": url, "model": served.backend.name, "task": served.task}))
        grace = limits.upload_seconds + limits.answer_seconds
        server_of(app, grace_seconds=grace, debug=debug).run(sockets=[listening])


def _check_most(option: str, value: float, most: int = LARGEST) -> None:
    """Raises UsageError where a value is larger, infinite or no number."""
    if not value <= most:
        raise UsageError(f"{option} must be at most {most:,}, got {value:g}; choose a smaller value")


def _options(values: Mapping[str, float | None], amp: bool | None) -> tuple[str, ...]:
    """The words that `detect` is called with to see what this server sees."""
    words = [word for name, value in values.items() if value is not None for word in (name, str(value))]
    return (*words, *({None: (), True: ("--amp",), False: ("--no-amp",)}[amp]))

"""`visionkit export`: a model for other runtimes, with the proof that it says the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from visionkit.cli.options import Debug, Json, Offline, Threads
from visionkit.cli.progress import image_progress, say

FILE_HELP = "A .safetensors file; default, coco or torchvision:NAME."


def export(
    file: Annotated[str, typer.Argument(help=FILE_HELP)] = "default",
    format_: Annotated[str, typer.Option("--format", help="onnx, or openvino where that is installed.")] = "onnx",
    int8: Annotated[
        bool, typer.Option("--int8", help="Backbone and neck in eight bits; with --data or --images.")
    ] = False,
    data: Annotated[
        str | None, typer.Option(help="Dataset whose val split to compare on, with AP of both; INT8: its train split.")
    ] = None,
    images: Annotated[str | None, typer.Option(help="Folder, glob or list of pictures to compare on instead.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; beside the weights.")] = None,
    threads: Threads = None,
    offline: Offline = False,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Write a model as an ONNX or OpenVINO graph: pixels in, decisions out, for batches and images of any size.

    Beside it lies a parity certificate: model and graph compared on the val split of --data, on --images, or on
    rendered pictures. Where the two differ by more than rounding (INT8: AP by more than 0.01) the file is kept with
    'out-of-tolerance' in its name, and the exit code is 1.

    Example: [bold]visionkit export runs/finetune/my-data-1/best.safetensors --data my-data[/bold]
    """
    from visionkit.api import export as job

    with image_progress("comparing") as listen:
        done = job.export(
            file,
            format=format_,  # type: ignore[arg-type]
            int8=int8,
            data=data,
            images=images,
            out=out,
            threads=threads or 0,
            offline=offline,
            listen=listen,
            say=say,
        )
    if json_:
        written = {"file": str(done.path), "bytes": done.size, "certificate_file": str(done.certificate_path)}
        typer.echo(json.dumps({**written, "certificate": done.certificate.to_json()}))
        return
    typer.echo(f"{done.path}, {done.size / 1e6:.1f} MB\n{done.certificate.table()}")

"""`visionkit benchmark`: how fast a model is here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from visionkit.cli.loaded import loaded_model
from visionkit.cli.options import USED_WEIGHTS_HELP, Amp, Debug, Device, ImageSize, Json, Offline, Threads

if TYPE_CHECKING:
    from visionkit.api.benchmark import Benchmark


def benchmark(
    source: Annotated[
        list[str] | None, typer.Argument(help="Images, folders, globs, lists; else a picture that is drawn for it.")
    ] = None,
    weights: Annotated[str, typer.Option(help=USED_WEIGHTS_HELP)] = "default",
    images: Annotated[int, typer.Option(min=1, help="How many are measured.")] = 100,
    warm_up: Annotated[int, typer.Option(min=0, help="How many are not, before.")] = 10,
    batch: Annotated[int, typer.Option("--batch", "--batch-size", min=1, help="Images seen at once.")] = 1,
    imgsz: ImageSize = None,
    device: Device = None,
    threads: Threads = None,
    amp: Amp = None,
    exact: Annotated[bool, typer.Option("--exact", help="fp32, layer by layer as in training; slower.")] = False,
    offline: Offline = False,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Measure how fast a model is on this machine: milliseconds an image, by step, and images a second.

    Each image is read from its file, every time. Half of the images take less than the median, nine tenths less than
    p90. Other work on the same cores makes a model many times slower: let the machine rest meanwhile.

    Example: [bold]visionkit benchmark photos --weights runs/finetune/my-data-1/best.safetensors --threads 2[/bold]
    """
    from visionkit.api import benchmark as job

    detector = loaded_model(weights, device=device, imgsz=imgsz, threads=threads, amp=amp, offline=offline, exact=exact)
    measured = job.benchmark(detector, source or (), images=images, warm_up=warm_up, batch=batch, threads=threads or 0)
    typer.echo(json.dumps(measured.to_json()) if json_ else benchmark_table(measured))


def benchmark_table(measured: Benchmark) -> str:
    """A line of what was measured, a row a step, and the throughput."""
    threads = f"{measured.threads} threads" if measured.threads else "its own number of threads"
    at_once = "one at a time" if measured.batch == 1 else f"{measured.batch} at a time"
    seen = f" in tiles of {measured.tile} px" if measured.tile else ""
    lines = [
        f"{measured.model} at {measured.image_size} px{seen}, {measured.runtime} with {threads} on {measured.cores} "
        f"cores: {measured.images} images, {at_once}, after {measured.warm_up}",
        f"{'ms':<12}{'median':>9}{'p90':>9}",
    ]
    lines += [f"{step:<12}{spread.median:>9.2f}{spread.p90:>9.2f}" for step, spread in measured.milliseconds.items()]
    return "\n".join([*lines, f"{measured.images_per_second:.1f} images/s"])

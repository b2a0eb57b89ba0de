"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

from visionkit.backbones.names import BACKBONE_CHOICES

Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads.")]
ImageSize = Annotated[int | None, typer.Option("--imgsz", "--img", help="Side of the square network input, pixels.")]
Tile = Annotated[
    int | None,
    typer.Option(help="Side of overlapping tiles that larger images are seen in, pixels; as trained; 0: seen whole."),
]
Overlap = Annotated[float | None, typer.Option(help="Share of a tile that neighbours have in common; 0.2.")]
BACKBONE_HELP = f"{BACKBONE_CHOICES}."
AUGMENT_HELP = "none, light, heavy, or a YAML file: base (heavy) and the settings that differ from it."
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave items in error out of the data, by name; exit 3.")]
WEIGHTS_HELP = (
    "default, scratch, imagenet (torchvision's, for the backbone), coco or torchvision:NAME (torchvision's, whole), or "
    "a .safetensors file."
)
USED_WEIGHTS_HELP = "A .safetensors file; coco or torchvision:NAME, downloaded once; default: the bundled model."
Amp = Annotated[bool | None, typer.Option("--amp/--no-amp", help="bf16 where the hardware has it; as trained.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never use the network; so does VISIONKIT_OFFLINE=1.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

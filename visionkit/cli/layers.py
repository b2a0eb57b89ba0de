"""`visionkit layers`: the numbered units of a model."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visionkit.cli.options import BACKBONE_HELP, Debug, Json, Offline

if TYPE_CHECKING:
    from visionkit.api.layers import Layers
    from visionkit.nn.units import UnitRow

HEADINGS = ("", "unit", "type", "output", "params", "so far", "MACs", "field", "stride", "")
TEXT_COLUMNS = (1, 2, 3, 9)
CLOSE_COLUMNS = (1, 5, 7, 8, 9)
"""With one space before them: a table of long names and `frozen` then still is no wider than 100."""
LEGEND_WIDTH = 100


def layers(
    model: Annotated[str, typer.Argument(help="A model's name, a weights file, coco, or torchvision:NAME.")] = "yolo",
    backbone: Annotated[str, typer.Option(help=f"For a model by name: {BACKBONE_HELP}")] = "csp-light",
    freeze: Annotated[list[str] | None, typer.Option(help="Mark what this --freeze would hold still.")] = None,
    imgsz: Annotated[int, typer.Option("--imgsz", "--img", help="Image side in pixels that the table is for.")] = 640,
    offline: Offline = False,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Show the units that --freeze counts, frozen or not.

    Of each: name, type, output shape, parameters and their share so far, multiply-adds, receptive field and stride.

    Example: [bold]visionkit layers yolo --backbone resnet18 --freeze 10[/bold]
    """
    from visionkit.api import layers as job

    found = job.layers(model, backbone=backbone, freeze_specs=freeze or (), imgsz=imgsz)
    if json_:
        typer.echo(json.dumps(_as_json(found)))
        return
    what = (
        f"{found.name} at {found.image_size} px"
        if found.region is None
        else f"{found.name}, a region warped to {found.region} px"
    )
    typer.echo(f"{what}; field and stride in px")
    lines = [HEADINGS, *(line for row in found.rows for line in _lines(row))]
    lines.append(("", "total", "", "", amount(found.parameters), "", amount(found.multiply_adds), "", "", ""))
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    for line in lines:
        text = ""
        for column, (cell, width) in enumerate(zip(line, widths, strict=True)):
            gap = 0 if column == 0 else 1 if column in CLOSE_COLUMNS else 2
            text += " " * gap + (f"{cell:<{width}}" if column in TEXT_COLUMNS else f"{cell:>{width}}")
        typer.echo(text.rstrip())
    for words in _legend(found):
        typer.echo(textwrap.fill(words, LEGEND_WIDTH, subsequent_indent="  "))
    if found.sentence:
        typer.echo(found.sentence)


def _lines(row: UnitRow) -> list[tuple[str, ...]]:
    """A line a map; the first says what the unit is."""
    maps = [(of_map.output, _pixels(of_map.receptive_field), _pixels(of_map.stride)) for of_map in row.maps]
    first, *others = maps or [("", "", "")]
    share = f"{100 * row.share:.1f}%"
    amounts = (amount(row.parameters), share, amount(row.multiply_adds))
    mark = "frozen" if row.frozen else ""
    return [
        (str(row.number), row.name, row.type, first[0], *amounts, *first[1:], mark),
        *(("", "", "", other[0], "", "", "", *other[1:], "") for other in others),
    ]


def _pixels(value: float | str | None) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:g}"


def amount(number: int) -> str:
    """In three digits with k, M or G.

    >>> [amount(number) for number in (464, 9_536, 64_600_000_000)]
    ['464', '9.54k', '64.6G']
    """
    value, prefix = float(number), ""
    for larger in "kMG":
        if value < 999.5:
            break
        value, prefix = value / 1000, larger
    digits = 0 if not prefix else 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f}{prefix}"


def _legend(found: Layers) -> list[str]:
    """What the columns mean, and what they leave out."""
    from visionkit.nn.multiply_adds import NOT_COUNTED

    fields = {of_map.receptive_field for row in found.rows for of_map in row.maps}
    words = [
        "output: channels x height x width; so far: share of all parameters, from the first unit to this one",
        f"MACs: multiply-adds of convolutions and fully connected layers; not {NOT_COUNTED}",
        "field: side of what one cell sees of the image, padding included; statistics of norms left out",
    ]
    if found.region is not None:
        from visionkit.proposals.selective_search import MOST_PROPOSALS

        words += [
            f"region: the backbone sees each region of an image by itself, up to {MOST_PROPOSALS} of them, warped to "
            f"{found.region} x {found.region} px; MACs are of one, fields and strides are in px of that",
            f"head: a linear SVM and a box regressor a class, {amount(found.fitted)} numbers that are fitted at once "
            "to the features of all regions; no unit, since it learns in no steps",
        ]
    if "global" in fields:
        words.append("global: all of the image, as by squeeze and excitation or an average over a whole map")
    if found.regions is not None:
        masks = f", masks its {found.masks} detections" if found.masks is not None else ""
        words.append(
            "-: depends on the region; the units behind the proposals count the "
            f"{found.regions} of a black image{masks}"
        )
    elif None in fields:
        words.append("-: cannot be told beforehand")
    return words


def _as_json(found: Layers) -> dict[str, Any]:
    return {
        "model": found.name,
        "imgsz": found.image_size,
        "parameters": found.parameters,
        "multiply_adds": found.multiply_adds,
        "regions": found.regions,
        "region": found.region,
        "fitted": found.fitted,
        "freeze": found.sentence or None,
        "units": [asdict(row) | {"type": row.type, "shapes": row.shapes} for row in found.rows],
    }

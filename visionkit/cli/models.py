"""`visionkit models`: the zoo."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING

import typer

from visionkit.cli.options import Debug, Json
from visionkit.counted import counted

if TYPE_CHECKING:
    from visionkit.api.models import Published, Weights

NAMES_WIDTH = 19
FORMS_WIDTH = 38


def models(json_: Json = False, debug: Debug = False) -> None:
    """Show the zoo: models, backbones and weights, which go together, their licences, where each score comes from.

    Example: [bold]visionkit models --json[/bold]
    """
    from dataclasses import asdict

    from visionkit.api import models as job
    from visionkit.backbones.names import TIMM

    zoo = job.zoo()
    if json_:
        typer.echo(json.dumps(asdict(zoo)))
        return
    typer.echo("Models (--model)")
    for model in zoo.models:
        _paragraph(model.name, f"{model.summary}. Code: {model.licence}.")
    typer.echo("Weights (--weights), beside any file that finetune wrote")
    for weights in zoo.weights:
        _paragraph(weights.name, _described(weights))
        for file in weights.published:
            _published(file)
    typer.echo(f"Backbones (--backbone), beside {TIMM}NAME where timm is installed")
    for backbone in zoo.backbones:
        _paragraph(backbone.name, f"{backbone.summary}. Code: {backbone.licence}.")
    typer.echo("Which go together: parameters in millions, alone and in a model for 80 classes")
    _row("", "alone", *(model.name for model in zoo.models))
    for backbone in zoo.backbones:
        sizes = [backbone.parameters, *(model.parameters.get(backbone.name) for model in zoo.models)]
        _row(backbone.name, *("-" if size is None else f"{size / 1e6:.2f}" for size in sizes))


def _row(name: str, *cells: str) -> None:
    typer.echo(f"  {name:<{NAMES_WIDTH}}" + "".join(f"{cell:>12}" for cell in cells))


def _described(weights: Weights) -> str:
    words = [f"{weights.summary}."]
    if weights.model:
        many = counted(len(weights.classes), "class", "classes")
        words.append(f"{weights.model}, {many}: {', '.join(weights.classes)}.")
    scores = ", ".join(
        f"{name} {weights.scores[name]:.3f}"
        for name in ("AP", "AP50")
        if weights.scores and weights.scores.get(name) is not None
    )
    if scores:
        words.append(f"{scores}, from {weights.scores_from}.")
    elif weights.published:
        kind = "Scores" if weights.published[0].model else "Top-1 accuracy"
        words.append(f"{kind} from {weights.scores_from}.")
    if weights.licence:
        words.append(f"Licence: {weights.licence}.")
    return " ".join(words)


def _published(file: Published) -> None:
    scores = ", ".join(f"{name} {value:.3f}" for name, value in file.scores.items())
    here = ", in the cache" if file.cached else ""
    size, name = f"{file.size / 1e6:>5.0f} MB", file.url.rpartition("/")[2]
    if file.model:  # its name says what the file's would
        words = f"{size}  {file.model}/{file.backbone}  {scores}{here}"
        typer.echo(f"  {'':<{NAMES_WIDTH}}  {file.name:<{FORMS_WIDTH}}{words}")
        return
    typer.echo(f"  {'':<{NAMES_WIDTH}}  {file.backbone:<{NAMES_WIDTH}}{scores}  {size}  {name}{here}")


def _paragraph(name: str, words: str) -> None:
    first = f"  {name:<{NAMES_WIDTH}}"
    typer.echo(
        textwrap.fill(words, 118, initial_indent=first, subsequent_indent=" " * len(first), break_on_hyphens=False)
    )

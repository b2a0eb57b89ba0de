"""`visionkit models`: the zoo."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import typer

from visionkit.cli.options import Debug, Json, Offline
from visionkit.counted import counted

if TYPE_CHECKING:
    from visionkit.api.models import Published, Weights, Zoo

NAMES_WIDTH = 19
FORMS_WIDTH = 38
WIDEST, NARROWEST = 118, 60
ROOMY = 100
"""From this width on files stand below the words, not below the names."""


def models(offline: Offline = False, json_: Json = False, debug: Debug = False) -> None:
    """Show the zoo: models, backbones and weights, which go together, their licences, where each score comes from.

    Lines are as wide as the terminal, tables are cut where they are wider. With --json: "models" with the "parameters"
    on each backbone it goes with, and why each other one is "refused"; "backbones"; "weights" with the "published"
    files.

    Example: [bold]visionkit models --json[/bold]
    """
    from dataclasses import asdict

    from visionkit.api import models as job
    from visionkit.backbones.names import TIMM

    zoo = job.zoo()
    if json_:
        typer.echo(json.dumps(asdict(zoo)))
        return
    width = max(NARROWEST, min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns))
    typer.echo("Models (--model)")
    for model in zoo.models:
        _paragraph(model.name, f"{model.summary}. Code: {model.licence}.", width)
    typer.echo("Weights (--weights), beside any file that finetune wrote")
    for weights in zoo.weights:
        _paragraph(weights.name, _described(weights), width)
        for file in weights.published:
            _published(file, width)
    typer.echo(_filled(f"Backbones (--backbone), beside {TIMM}NAME where timm is installed", width))
    for backbone in zoo.backbones:
        _paragraph(backbone.name, f"{backbone.summary}. Code: {backbone.licence}.", width)
    typer.echo(
        _filled("Which go together (- do not): parameters in millions, alone and in a model for 80 classes", width)
    )
    _sizes(zoo, width)
    typer.echo("Which do not, and why")
    for name, words in _refusals(zoo):
        _paragraph(name, words, width)
    _paragraph(f"{TIMM}NAME", "a model whose strides its maps lack, which says so when it is built.", width)


def _sizes(zoo: Zoo, width: int) -> None:
    """A row a backbone, a column a model; where they are too many for a line, in several tables below each other."""
    columns = [
        ("alone", {backbone.name: backbone.parameters for backbone in zoo.backbones}),
        *((model.name, model.parameters) for model in zoo.models),
    ]
    for names in _that_fit([name for name, _ in columns], width - 2 - NAMES_WIDTH):
        shown = [(name, sizes) for name, sizes in columns if name in names]
        rows = [("", list(names))]
        for backbone in zoo.backbones:
            found = [sizes.get(backbone.name) for _, sizes in shown]
            rows.append((backbone.name, ["-" if size is None else f"{size / 1e6:.2f}" for size in found]))
        for first, cells in rows:
            numbers = (f"{cell:>{_cell_width(name)}}" for name, cell in zip(names, cells, strict=True))
            typer.echo(f"  {first:<{NAMES_WIDTH}}" + "".join(numbers))


def _cell_width(heading: str) -> int:
    return 2 + max(len(heading), len("999.99"))


def _that_fit(headings: Sequence[str], room: int) -> Iterator[list[str]]:
    """The headings in their order, in as few lines as there is room for.

    >>> list(_that_fit(["alone", "yolo", "classifier"], 20))  # 2 + 6, 2 + 6, 2 + 10
    [['alone', 'yolo'], ['classifier']]
    """
    line: list[str] = []
    for heading in headings:
        if line and sum(map(_cell_width, [*line, heading])) > room:
            yield line
            line = []
        line.append(heading)
    if line:
        yield line


def _refusals(zoo: Zoo) -> Iterator[tuple[str, str]]:
    """Each backbone with the models that it does not go with, those together that say the same against it."""
    together: dict[tuple[str, str], list[str]] = {}
    for model in zoo.models:
        for backbone, why in model.refused.items():
            together.setdefault((backbone, why.removeprefix(f"model {model.name} ")), []).append(model.name)
    for (backbone, why), names in together.items():
        yield backbone, f"{', '.join(names)}: {why}."


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


def _published(file: Published, width: int) -> None:
    scores = ", ".join(f"{name} {value:.3f}" for name, value in file.scores.items())
    here = ", in the cache" if file.cached else ""
    size, name = f"{file.size / 1e6:>5.0f} MB", file.url.rpartition("/")[2]
    if file.model:  # its name says what the file's would
        words = f"{file.name:<{FORMS_WIDTH}}{size}  {file.model}/{file.backbone}  {scores}{here}"
    else:
        words = f"{file.backbone:<{NAMES_WIDTH}}{scores}  {size}  {name}{here}"
    indent = " " * (4 + NAMES_WIDTH if width >= ROOMY else 4)
    typer.echo(_filled(indent + words, width, hanging=f"{indent}  "))


def _paragraph(name: str, words: str, width: int) -> None:
    first = f"  {name:<{NAMES_WIDTH}}"
    typer.echo(_filled(first + words, width, hanging=" " * len(first)))


def _filled(words: str, width: int, hanging: str = "  ") -> str:
    return textwrap.fill(words, width, subsequent_indent=hanging, break_on_hyphens=False, break_long_words=False)

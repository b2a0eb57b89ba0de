"""`visionkit info`: what a report of a problem needs to say of a machine."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from visionkit.cli.options import Debug, Json, Offline

if TYPE_CHECKING:
    from visionkit.api.info import Devices


def info(
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of the results of detect --json, and nothing else.")
    ] = False,
    offline: Offline = False,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Show versions, devices, the licences of what visionkit depends on, and conflicts among the installed packages.

    Example: [bold]visionkit info --json[/bold]

    Example: [bold]visionkit info --schema > result.schema.json[/bold]
    """
    if schema:
        from visionkit.result import SCHEMA_FILE

        typer.echo(SCHEMA_FILE.read_text(encoding="utf-8"), nl=False)
        return
    from visionkit.api import info as job

    found = job.info()
    if json_:
        typer.echo(json.dumps(asdict(found)))
        return
    versions = {"visionkit": found.visionkit, "python": found.python, **found.versions}
    width = max(map(len, [*versions, *found.licences]))
    typer.echo("Versions")
    for name, version in versions.items():
        typer.echo(f"  {name:<{width}}  {version or 'not installed'}")
    typer.echo(f"  {'platform':<{width}}  {found.platform}")
    if found.devices is not None:
        typer.echo("Devices")
        for name, words in _described(found.devices).items():
            typer.echo(f"  {name:<{width}}  {words}")
    typer.echo("Licences of the installed dependencies, as their metadata states them")
    for name, licence in found.licences.items():
        typer.echo(f"  {name:<{width}}  {licence}")
    typer.echo("Conflicts" if found.conflicts else "No conflicts")
    for line in found.conflicts:
        typer.echo(f"  {line}")


def _described(devices: Devices) -> dict[str, str]:
    bf16 = "with" if devices.bf16 else "without"
    return {
        "cpu": f"{devices.cores} cores, {devices.threads} threads, {bf16} bf16 arithmetic",
        "cuda": ", ".join(devices.cuda) or "none",
        "mps": "available" if devices.mps else "none",
        "--device auto": devices.auto,
    }

"""`visionkit doctor`: what is wrong with a dataset, and a repaired copy of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visionkit.cli.options import Debug, Device, Json, Offline, Threads
from visionkit.cli.progress import image_progress, say
from visionkit.errors import UsageError

if TYPE_CHECKING:
    from visionkit.api.doctor import Diagnosis
    from visionkit.diagnosis.findings import Finding

EXAMPLES = 3


def doctor(
    data: Annotated[Path, typer.Argument(help="Dataset folder, its YAML file, or a COCO annotation file.")],
    images: Annotated[Path | None, typer.Option(help="Where the images of an annotation file lie.")] = None,
    fix: Annotated[Path | None, typer.Option(help="Write a repaired copy into this new folder.")] = None,
    undo: Annotated[
        Path | None, typer.Option(help="Take a --fix back: a file in its repairs/; DATA is the repaired copy.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="With --undo: the annotation file, or folder, to write.")] = None,
    weights: Annotated[Path | None, typer.Option(help="A model that has its doubts about labels.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Look at headers of images only.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings make exit code 1 too.")] = False,
    imgsz: Annotated[int, typer.Option("--imgsz", "--img", help="Network input that objects are tiny for.")] = 640,
    device: Device = None,
    threads: Threads = None,
    offline: Offline = False,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Look for all that is wrong or odd in a dataset: ids, boxes, masks, files, splits. Nothing in it is changed.

    All formats that are read are looked through; COCO, YOLO, VOC and masks are repaired by --fix.

    Exit code 1 where an error is found that --fix did not mend.

    With --undo, the annotation files are written as they were before a repair: nothing is looked for.

    Example: [bold]visionkit doctor my-data --fix my-data-repaired[/bold]

    Example: [bold]visionkit doctor my-data-repaired --undo my-data-repaired/repairs/train.json --out train.json[/bold]
    """
    if undo is not None or out is not None:
        others = {"--images": images, "--fix": fix, "--weights": weights, "--quick": quick, "--strict": strict}
        _take_back(data, undo, out, [name for name, value in others.items() if value], json_)
        return
    from visionkit.api import doctor as job

    with image_progress("looking") as listen:
        found = job.doctor(
            data,
            images=images,
            fix=fix,
            weights=weights,
            look_at_images=not quick,
            imgsz=imgsz,
            device=device or "auto",
            threads=threads or 0,
            offline=offline,
            listen=listen,
            say=say,
        )
    if json_:
        typer.echo(json.dumps(found.to_json()))
    else:
        _print(found, data)
    fixed = found.repaired_to is not None
    if found.count("error", left=fixed) or (strict and found.count("warning", left=fixed)):
        raise typer.Exit(1)


def _take_back(data: Path, undo: Path | None, out: Path | None, others: list[str], json_: bool) -> None:
    from visionkit.api.undo_repair import undo_repair

    if undo is None or out is None:
        raise UsageError("--undo DIFF takes a repair back into --out FILE; give both")
    if others:
        raise UsageError(f"{', '.join(others)} has no meaning with --undo, which looks for nothing; leave it out")
    undone = undo_repair(data, undo, out, say=say)
    if json_:
        typer.echo(json.dumps(undone.to_json()))
        return
    how = "the same bytes" if undone.same_bytes else "the same content, written anew"
    typer.echo(f"{undone.written}: {undone.changes} rows put back; {how} as before the repair")


def _print(found: Diagnosis, data: Path) -> None:
    from visionkit.diagnosis.codes import CODES, SEVERITIES

    by_code: dict[str, list[Finding]] = {}
    for finding in found.findings:
        by_code.setdefault(finding.code, []).append(finding)
    for severity in SEVERITIES:
        codes = sorted(code for code in by_code if CODES[code].severity == severity)
        if codes:
            typer.echo(f"{severity}s")
        for code in codes:
            _print_code(code, by_code[code])
    counts = [(found.count(severity), severity) for severity in SEVERITIES]
    words = ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for count, name in counts)
    typer.echo(f"{words}" if found.findings else "Nothing found.")
    if found.repaired_to is not None:
        left = found.count("error", left=True)
        typer.echo(f"Repaired copy: {found.repaired_to}, {found.changed} rows changed; what changed is in its repairs/")
        if left:
            typer.echo(f"{left} errors are left, which need you")
    elif any(finding.repaired for finding in found.findings):
        mendable = sum(finding.repaired for finding in found.findings)
        typer.echo(f"{mendable} of them would be repaired by: visionkit doctor {data} --fix OUT")


def _print_code(code: str, findings: list[Finding]) -> None:
    from visionkit.diagnosis.codes import CODES

    known = CODES[code]
    typer.echo(f"  {code}  {len(findings):>5} x {known.title}: {known.why}")
    for finding in findings[:EXAMPLES]:
        sure = "" if finding.score is None else f"{finding.score:.2f}  "
        file = finding.file.resolve().name  # `.` has none
        where = f"{file}: {finding.item}" if finding.item else file
        typer.echo(f"           {sure}{where} {finding.fact}")
    if len(findings) > EXAMPLES:
        typer.echo(f"           and {len(findings) - EXAMPLES} more; --json has all")
    mendable = sum(finding.repaired for finding in findings)
    if known.fix and mendable:
        some = "" if mendable == len(findings) else f" ({mendable} of them)"
        typer.echo(f"           --fix {known.fix}{some}")

"""The command line: one command a file; each parses, calls `visionkit.api`, prints.

Results go to stdout, words and progress to stderr. Only this room turns errors into a line and an exit code. Nothing
heavy is imported before a command runs.
"""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

import typer

from visionkit.cli.advise import advise
from visionkit.cli.augment_preview import augment_preview
from visionkit.cli.benchmark import benchmark
from visionkit.cli.classify import classify
from visionkit.cli.compare import compare
from visionkit.cli.convert import convert
from visionkit.cli.detect import detect
from visionkit.cli.doctor import doctor
from visionkit.cli.evaluate import evaluate
from visionkit.cli.export import export
from visionkit.cli.finetune import finetune
from visionkit.cli.info import info
from visionkit.cli.layers import layers
from visionkit.cli.models import models
from visionkit.cli.process import (
    leave,
    let_first_speak,
    print_any_name,
    silence_image_libraries,
    stop_process,
    tune_process,
)
from visionkit.cli.propose import propose
from visionkit.cli.quick import quick_command
from visionkit.cli.segment import segment
from visionkit.cli.serve import serve
from visionkit.cli.split import split
from visionkit.errors import VisionkitError

app = typer.Typer(
    name="visionkit",
    help="Train detectors, segmenters and classifiers on your own data, know honestly how good they are, use them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(finetune)
app.command()(advise)
app.command()(evaluate)
app.command()(compare)
app.command()(doctor)
app.command()(convert)
app.command()(split)
app.command()(detect)
app.command()(classify)
app.command()(segment)
app.command()(export)
app.command()(serve)
app.command()(layers)
app.command()(augment_preview)
app.command()(propose)
app.command()(models)
app.command()(benchmark)
app.command()(info)


@app.callback(invoke_without_command=True)
def visionkit(version: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:
    """Train detectors, segmenters and classifiers on your own data, know honestly how good they are, use them."""
    if version:
        import visionkit as package

        typer.echo(package.__version__)
        raise typer.Exit


def run() -> NoReturn:
    """The command `visionkit`: `main`, and a quick end."""
    try:
        main()
    except SystemExit as end:
        leave(end.code)
    leave(0)


def main() -> None:
    """Run the command line; exits with 0, 1, 2, 3, 130 or 143 as README says."""
    tune_process()
    silence_image_libraries()
    print_any_name()
    signal.signal(signal.SIGINT, stop_process)
    signal.signal(signal.SIGTERM, stop_process)
    try:
        quick_command(app, sys.argv[1:])()
    except VisionkitError as error:
        if "--debug" in sys.argv:
            raise
        let_first_speak()
        print(f"error: {error}", file=sys.stderr)
        for note in getattr(error, "__notes__", ()):
            print(note, file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # Whoever read our output has seen enough, as `| head` does; Python would complain once more at exit.
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("visionkit"):
            # As where only what detection needs is installed.
            print(f"error: this needs {error.name}, which is not installed here; pip install it", file=sys.stderr)
            sys.exit(1)
        let_first_speak()
        words = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"error: {words}; repeat with --debug to see where", file=sys.stderr)
        sys.exit(1)

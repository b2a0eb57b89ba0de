"""The quick way from words to values: it gives what Typer gives, and leaves to Typer what it does not know."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
import typer

from visionkit.cli import app
from visionkit.cli.quick import plain_value, quick_command

WORDS = ["3", "-1", "+2", "0", "0.5", "-.5", "5.", "1e-3", "1_000", " 1", "nan", "true", "", "a,b", "*.jpg", "é"]

by_pydantic = pytest.mark.skipif(
    not hasattr(typer.core.TyperOption, "get_runtime_param"), reason="this Typer converts without pydantic"
)


def parameters() -> list[Any]:
    command: Any = typer.main.get_command(app)
    return [parameter for one in command.commands.values() for parameter in one.params]


@by_pydantic
@pytest.mark.parametrize("word", WORDS)
def test_a_plain_value_is_typers(word: str) -> None:
    converted = set()
    for parameter in parameters():
        described = parameter.type_descriptor
        value = plain_value(described.annotation, word, described.parameter_info)
        if value is not None:
            theirs = parameter.get_runtime_param().coerce(word, param=parameter, ctx=None)
            assert (type(value), value) == (type(theirs), theirs), parameter.name
            converted.add(type(value))
    assert str in converted


NO_LIMITS = SimpleNamespace(min=None, max=None, clamp=False, exists=False, resolve_path=False, path_type=None)


@pytest.mark.parametrize(
    ("kind", "word", "value"),
    [
        (int, "12", 12), (int, "1.5", None), (int, "1_0", None), (float, "12", 12.0), (float, ".5", 0.5),
        (float, "1e-3", None), (bool, True, True), (bool, "true", None), (str, "", ""), (dict, "{}", None),
        (int, 7, 7), (float, 7, None), (Path, "not/there", Path("not/there")), (Path, ".", None),
    ],
)  # fmt: skip
def test_what_is_converted_here(kind: type, word: Any, value: Any) -> None:
    assert plain_value(kind, word, NO_LIMITS) == value


def test_what_is_out_of_range_is_left_to_typer() -> None:
    limits = SimpleNamespace(**{**vars(NO_LIMITS), "min": 1, "max": 4})
    assert [plain_value(int, word, limits) for word in "0145"] == [None, 1, 4, None]
    clamped = SimpleNamespace(**{**vars(limits), "clamp": True})
    assert plain_value(int, "2", clamped) is None


def called(words: list[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a command with all kinds of options is called with."""
    seen: dict[str, Any] = {}
    own = typer.Typer(pretty_exceptions_enable=False)

    def look(
        source: Annotated[list[str] | None, typer.Argument()] = None,
        number: Annotated[int, typer.Option(min=1)] = 2,
        share: float | None = None,
        kinds: Annotated[list[str] | None, typer.Option("--kind")] = None,
        out: Path | None = None,
        yes: bool = True,
    ) -> None:
        seen.update(source=source, number=number, share=share, kinds=kinds, out=out, yes=yes)

    own.command()(look)
    own.command("other")(lambda: None)
    own.callback()(lambda: None)
    monkeypatch.setattr(sys, "argv", ["program", *words])
    with pytest.raises(SystemExit) as end:
        quick_command(own, words)()
    return {**seen, "code": end.value.code}


def test_a_command_is_called_as_typer_calls_it(monkeypatch: pytest.MonkeyPatch) -> None:
    unsaid = {"source": None, "number": 2, "share": None, "kinds": None, "out": None, "yes": True, "code": 0}
    assert called(["look"], monkeypatch) == unsaid
    words = ["a", "b", "--number", "3", "--share", "0.5", "--kind", "x", "--kind", "y", "--out", "o", "--no-yes"]
    assert called(["look", *words], monkeypatch) == {
        "source": ["a", "b"], "number": 3, "share": 0.5, "kinds": ["x", "y"], "out": Path("o"), "yes": False, "code": 0,
    }  # fmt: skip
    assert called(["look", "--share", "1e-3"], monkeypatch)["share"] == 1e-3
    assert called(["other"], monkeypatch) == {"code": 0}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["look", "--number", "0"], "greater than or equal to 1"),
        (["look", "--number", "x"], "valid integer"),
        (["look", "--nothing"], "--nothing"),
        (["lok"], "lok"),
    ],
)
def test_what_is_wrong_typer_says(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(words, monkeypatch) == {"code": 2}
    assert said in capsys.readouterr().err


def test_the_app_keeps_all_its_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(app.registered_commands)
    commands: Any = quick_command(app, ["detect", "a.jpg"])
    assert list(commands.commands) == ["detect"]
    everything: Any = quick_command(app, ["--help"])
    assert len(everything.commands) == len(app.registered_commands) == before


def test_the_help_of_every_command_breaks_where_the_terminal_ends() -> None:
    everything: Any = quick_command(app, ["--help"])
    for command in everything.commands.values():
        paragraphs = command.help.split("\n\n")
        assert len(paragraphs) > 1, "a sentence, and an example"
        assert not any("\n" in paragraph for paragraph in paragraphs)


IMPORTED = """
import sys
sys.argv = ["visionkit", "detect", "nowhere.jpg", "--conf", "0.5", "--threads", "1", "--no-save"]
from visionkit.cli import main
try:
    main()
except SystemExit as end:
    print(end.code, [name for name in ("torch", "pydantic", "rich", "matplotlib") if name in sys.modules])
"""


def test_a_detection_imports_none_of_the_slow_ones() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=False)
    assert done.stdout == "2 []\n"
    assert done.stderr.startswith("error: nowhere.jpg does not exist")

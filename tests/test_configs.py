"""The recipes in configs/: each is valid, and its first line is a command that works."""

import re
import shlex
from pathlib import Path

import pytest

from visionkit.choices import Choices, read_config_file

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "configs").glob("*.yaml"))


def command_of(recipe: Path) -> list[str]:
    """The words of the command that a recipe's header names."""
    match = re.match(r"# Command: +(visionkit .+?)(?:   \(.*)?\n", recipe.read_text(encoding="utf-8"))
    assert match, f"{recipe} must begin with '# Command:  visionkit ...'"
    return shlex.split(match[1])


def test_there_are_recipes() -> None:
    assert RECIPES


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_recipe_is_valid_and_says_nothing_twice(recipe: Path) -> None:
    choices = Choices()
    values = read_config_file(recipe)
    choices.say(values, "file")
    choices.config()
    assert values


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_header_names_the_command_with_this_recipe(recipe: Path) -> None:
    words = command_of(recipe)
    assert words[:2] == ["visionkit", "finetune"]
    assert words[words.index("--config") + 1] == recipe.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_the_commands_options_exist(recipe: Path) -> None:
    import typer

    from visionkit.cli import app

    finetune = typer.main.get_command(app).commands["finetune"]
    known = {option for parameter in finetune.params for option in parameter.opts}
    given = {word.partition("=")[0] for word in command_of(recipe) if word.startswith("--")}
    assert given <= known

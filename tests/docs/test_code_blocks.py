"""Every code block of the documentation is run, or says why not; every command in it has options that exist."""

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from code_blocks import Block, code_blocks, commands, indented_blocks, visionkit_calls
from command_line import CommandLine
from story import RUNNERS, Story, same_words, told_output, with_budget

from visionkit.cli import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PARSED = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "visionkit" / "bundled" / "MODEL_CARD.md"]
"""Pages whose commands must exist; what the last two say is run elsewhere, or takes hours."""


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


OF_THE_README = {
    "setup": ("my-data", "best.safetensors", "photos"),
    "replaced": (("epochs=50", 'epochs=1, imgsz=64, batch=8, workers=0, threads=1, device="cpu"'),),
}
"""What comments say in the other pages; the README has none, because package indexes show them."""


def blocks_of(page: Path) -> list[Block]:
    blocks = code_blocks(page)
    return [replace(block, **OF_THE_README) for block in blocks] if page.name == "README.md" else blocks  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the sample is rendered, once for all pages."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def story(
    command_line: CommandLine, rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Story]:
    environment = {"VISIONKIT_CACHE": str(rendered), "VISIONKIT_OFFLINE": "1"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    made = Story(tmp_path, command_line, environment)
    yield made
    made.close()


@pytest.mark.timeout(900)  # on a busy machine; an export alone takes half a minute of a core
@pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked")
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_runs_from_its_first_block_to_its_last(page: Path, story: Story) -> None:
    for block in blocks_of(page):
        story.run(block)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_of_a_language_that_is_run_or_says_why_not(page: Path) -> None:
    for block in code_blocks(page):
        if block.not_run is None:
            assert block.language in RUNNERS, f"{block.where} is of {block.language or 'no language'}; say why not run"
        else:
            assert len(block.not_run) > 10, f"{block.where} is not run, and does not say why"


def texts_of(page: Path) -> list[tuple[str, str]]:
    """Every text of code in a page, with its place: of fences and of indented blocks."""
    fenced = [(block.where, block.text) for block in code_blocks(page)]
    return fenced + [(f"{page.name}:{line}", text) for line, text in indented_blocks(page)]


@cache
def all_commands() -> dict[str, Any]:
    return typer.main.get_command(app).commands  # type: ignore[attr-defined, no-any-return]


def refused(words: list[str]) -> str | None:
    """Why the command line would not take these words; None where it would. Nothing is run."""
    name = words[0]
    if name.startswith("-"):
        return None if name in ("--help", "--version", "-h") else f"no option {name}"
    command = all_commands().get(name)
    if command is None:
        return f"there is no command {name}"
    if {"--help", "-h"} & set(words):
        return None
    try:
        command.make_context(f"visionkit {name}", [word for word in words[1:] if not word.startswith("$")])
    except Exception as error:
        # Click's own errors say in `message` what is wrong; anything else is a mistake of this test.
        if not hasattr(error, "message"):
            raise
        return str(error.message)
    return None


@pytest.mark.parametrize("page", PARSED, ids=name_of)
def test_every_command_has_options_that_exist(page: Path) -> None:
    for where, text in texts_of(page):
        for words in visionkit_calls(text):
            assert (problem := refused(words)) is None, f"{where}: visionkit {' '.join(words)}: {problem}"


def test_what_is_refused_is_told() -> None:
    assert refused(["finetune", "--freze", "10"]).startswith("No such option: --freze")  # type: ignore[union-attr]
    assert "valid integer" in (refused(["finetune", "--epochs", "many"]) or "")
    assert refused(["finetun"]) == "there is no command finetun"
    assert "unexpected extra argument" in (refused(["compare", "a", "b", "c"]) or "")
    assert refused(["finetune", "--freeze", "10", "$WHAT"]) is None


# The parser -----------------------------------------------------------------------------------------------------------

PAGE = """# A page

<!-- setup: my-data photo.jpg -->
<!-- with: --minutes 15 => --epochs 1 -->
```bash
visionkit finetune --data my-data \\
    --minutes 15   # a quarter of an hour
```

1. In a list, whose

    continued line is no block:

   ~~~python
   if True:
       x = 1
   ~~~

<!-- exit code: 3 -->
Words between a comment and its block change nothing.

```yaml title="mine.yaml"
imgsz: 320
```

<!-- not run: needs
     a GPU -->
````text
```
````

    torchrun --nproc-per-node 4 -m visionkit finetune --data my-data

    and more
    $ visionkit models --json > zoo.json
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    file = tmp_path / "page.md"
    file.write_text(PAGE)
    return file


def test_fences_come_with_what_is_said_before_them(page: Path) -> None:
    shell, python, settings, text = code_blocks(page)
    assert (shell.line, shell.language, shell.setup) == (6, "bash", ("my-data", "photo.jpg"))
    assert shell.runnable == "visionkit finetune --data my-data \\\n    --epochs 1   # a quarter of an hour"
    assert list(commands(shell.text)) == [["visionkit", "finetune", "--data", "my-data", "--minutes", "15"]]
    assert (python.language, python.text, python.exit_code) == ("python", "if True:\n    x = 1", 0)
    assert (settings.title, settings.text, settings.exit_code) == ("mine.yaml", "imgsz: 320", 3)
    assert (text.text, text.not_run) == ("```", "needs\n     a GPU")


def test_indented_blocks_and_calls(page: Path) -> None:
    ((_, continued), (_, text)) = indented_blocks(page)
    assert continued == "continued line is no block:"  # as Markdown has it outside of a list; it holds no call
    assert list(visionkit_calls(text)) == [["finetune", "--data", "my-data"], ["models", "--json"]]


def test_a_fence_that_is_not_closed_and_a_replacement_of_nothing(page: Path) -> None:
    page.write_text("```bash\nvisionkit models\n")
    with pytest.raises(AssertionError, match=r"page\.md:1: this fence is never closed"):
        code_blocks(page)
    block = Block(page, 2, "bash", "visionkit models", replaced=(("--json", ""),))
    with pytest.raises(AssertionError, match="has no '--json'"):
        _ = block.runnable


def test_budgets_take_the_place_of_what_is_said() -> None:
    said = ["finetune", "--data", "x", "--minutes", "15", "--imgsz", "640"]
    run = with_budget(said)
    assert "--minutes" not in run
    assert run[:5] == ["finetune", "--data", "x", "--imgsz", "640"]
    assert run[run.index("--epochs") + 1] == "1"
    assert "--batch" not in with_budget(said, chosen=("--batch",))
    assert with_budget(["finetune", "--resume", "run"]) == ["finetune", "--resume", "run"]


def test_outputs_are_the_same_but_for_numbers() -> None:
    assert same_words("Frozen 10 of 17 units, 0.90 M of 1.89 M parameters (47.8 %)") == same_words(
        "Frozen 3 of 17 units,  1.2 M of 1.89 M parameters (4 %)"
    )
    assert same_words("AP n/a") == same_words("AP 0.25")
    assert same_words("Frozen 10 units") != same_words("Held 10 units")
    assert told_output("$ visionkit a \\\n  b\none\n...\n\n$ visionkit c") == [
        ("$ visionkit a b", ["one"]),
        ("$ visionkit c", []),
    ]


def test_a_page_that_lies_fails(story: Story, page: Path) -> None:
    for text, words in (
        ("```console\n$ visionkit --version\nseven\n```", "not printed any more: 'seven'"),
        ("```bash\nvisionkit layers no-such-model\n```", "ended with 2"),
        ("```bash\nrm -r everything\n```", "rm is no program that pages are run with"),
        ("```yaml\nimgsz: 320\n```", "a YAML block names its file"),
    ):
        page.write_text(text)
        with pytest.raises(AssertionError, match=re.escape(words)):
            story.run(code_blocks(page)[0])

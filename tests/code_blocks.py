"""The code blocks of a Markdown page, with what its HTML comments say of them to the tests.

A comment that is one of these belongs to the next block, or, with `setup`, to the page from here on:

    <!-- setup: my-data photo.jpg -->     what lies in the page's folder, by names in `story.SETUPS`
    <!-- with: --minutes 15 => --epochs 1 -->   what is replaced before the block is run; repeatable
    <!-- exit code: 3 -->                 what the block's last command ends with; else 0
    <!-- not run: needs a GPU -->         why the block is not run; its commands are parsed all the same
    <!-- server: /healthz -->             the block's command stays, to the end of the page, once this path answers

Every other comment is for readers of the source.
"""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^( *)(`{3,}|~{3,}) *([\w+-]*)(.*)$")
COMMENT = re.compile(r"<!--\s*(setup|with|exit code|not run|server):\s*(.*?)\s*-->", re.DOTALL)
TITLE = re.compile(r'title="([^"]+)"')
INDENT = "    "


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Args:
        line: where its text begins in the page, from 1.
        language: as the fence names it; empty where it names none.
        title: the file that its text is of; empty where it is of none.
        setup: names of what must lie in the folder first.
        replaced: pairs of what is written and what is run instead.
        not_run: why it is not; None where it is run.
        server: the path that answers once its command is up; None where the command ends by itself.
    """

    page: Path
    line: int
    language: str
    text: str
    title: str = ""
    setup: tuple[str, ...] = ()
    replaced: tuple[tuple[str, str], ...] = ()
    exit_code: int = 0
    not_run: str | None = None
    server: str | None = None

    @property
    def where(self) -> str:
        return f"{self.page.name}:{self.line}"

    @property
    def runnable(self) -> str:
        """Its text with what is run in place of what is written.

        Raises:
            AssertionError: what is to be replaced is not there.
        """
        text = self.text
        for written, run in self.replaced:
            assert written in text, f"{self.where}: nothing to replace, the block has no {written!r}"
            text = text.replace(written, run)
        return text


def code_blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order.

    Raises:
        AssertionError: a fence is not closed.
    """
    lines = page.read_text(encoding="utf-8").split("\n")
    blocks: list[Block] = []
    said: list[tuple[str, str]] = []
    prose: list[str] = []
    number = 0
    while number < len(lines):
        opening = FENCE.match(lines[number])
        if opening is None:
            prose.append(lines[number])
            number += 1
            continue
        indent, fence, language, info = opening.groups()
        closing = re.compile(rf"^ *{re.escape(fence[0])}{{{len(fence)},}} *$")
        end = next((n for n in range(number + 1, len(lines)) if closing.match(lines[n])), None)
        assert end is not None, f"{page.name}:{number + 1}: this fence is never closed"
        said += COMMENT.findall("\n".join(prose))
        text = textwrap.dedent("\n".join(line[len(indent) :] for line in lines[number + 1 : end]))
        title = TITLE.search(info)
        blocks.append(_block(page, number + 2, language, text, title[1] if title else "", said))
        said, prose, number = [], [], end + 1
    return blocks


def _block(page: Path, line: int, language: str, text: str, title: str, said: Sequence[tuple[str, str]]) -> Block:
    values = {key: value for key, value in said if key not in ("setup", "with")}
    pairs = [value.partition(" => ") for key, value in said if key == "with"]
    assert all(arrow for _, arrow, _ in pairs), f"{page.name}:{line}: a replacement is written as A => B"
    return Block(
        page,
        line,
        language,
        text,
        title,
        setup=tuple(name for key, value in said if key == "setup" for name in value.split()),
        replaced=tuple((written, run) for written, _, run in pairs),
        exit_code=int(values.get("exit code", 0)),
        not_run=values.get("not run"),
        server=values.get("server"),
    )


def indented_blocks(page: Path) -> list[tuple[int, str]]:
    """The blocks that Markdown knows by four blanks before each line, with the number of their first line.

    A block begins after an empty line, so that the continued line of a list is none; and lies outside of fences.
    """
    blocks: list[tuple[int, list[str]]] = []
    fence = None
    before = ""
    for number, line in enumerate(page.read_text(encoding="utf-8").split("\n"), 1):
        mark = FENCE.match(line)
        if mark and (fence is None or mark[2].startswith(fence)):
            fence = mark[2] if fence is None else None
        elif fence is None and line.startswith(INDENT):
            inside = blocks and blocks[-1][0] + len(blocks[-1][1]) == number
            if inside:
                blocks[-1][1].append(line)
            elif not before.strip():
                blocks.append((number, [line]))
        elif fence is None and not line.strip() and blocks and blocks[-1][0] + len(blocks[-1][1]) == number:
            blocks[-1][1].append(line)
        before = line
    return [(number, textwrap.dedent("\n".join(lines)).rstrip()) for number, lines in blocks]


def commands(text: str) -> Iterator[list[str]]:
    """The command lines of a shell text as words: continued lines joined, comments and prompts gone."""
    for line in re.sub(r" *\\\n\s*", " ", text).split("\n"):
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words:
            yield words


def visionkit_calls(text: str) -> Iterator[list[str]]:
    """What `visionkit` is called with in a shell text, also behind variables and torchrun; without redirections.

    Lines that are no shell, such as what a command prints, hold no call.
    """
    for line in re.sub(r" *\\\n\s*", " ", text).split("\n"):
        match = re.match(r"(?:\$ )?(?:[A-Z_]+=\S+ )*(?:(?:srun )?torchrun .*?-m )?visionkit (.+)", line)
        if match:
            words = shlex.split(match[1], comments=True)
            end = next((n for n, word in enumerate(words) if word in (">", ">>", "|", "&", "&&", "2>", "...")), None)
            yield words[:end]

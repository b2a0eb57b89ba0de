"""Runs the code blocks of a page as one story: block after block in one folder, on rendered data, with tiny budgets."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from code_blocks import Block, commands
from command_line import CommandLine

from visionkit.build import build_model, save_model
from visionkit.choices import Choices, flatten, read_augment
from visionkit.classes import ClassTable
from visionkit.config import Recipe
from visionkit.data.augment_values import NAMES as AUGMENT_NAMES
from visionkit.data.sample import render_sample
from visionkit.formats.layout import find_layout
from visionkit.formats.yaml_file import StrictLoader

# What lies in a page's folder -----------------------------------------------------------------------------------------


def _my_data(folder: Path) -> None:
    """Rendered pictures as plain COCO, with masks; each image has a `patient`, of whom there are two images each."""
    render_sample(folder, images={"train": 16, "val": 6, "test": 6}, size=96)
    for file in sorted((folder / "annotations").iterdir()):
        content = json.loads(file.read_text())
        for number, image in enumerate(content["images"]):
            image["patient"] = f"{file.stem}-{number // 2}"
        file.write_text(json.dumps(content))


def _my_next_data(folder: Path) -> None:
    """The same with other pictures, and none held back for val."""
    render_sample(folder, seed=1, images={"train": 12}, size=96)


def _dirty_data(folder: Path) -> None:
    """Data with four things wrong in train, of which a repair mends all."""
    _my_data(folder)
    file = folder / "annotations" / "train.json"
    content = json.loads(file.read_text())
    first, second, third, fourth = content["annotations"][:4]
    first["bbox"][2] *= -1
    second["image_id"] = 999
    third["category_id"] = 999
    fourth["area"] = 1
    file.write_text(json.dumps(content))


def _my_scenes(folder: Path) -> None:
    """Index masks, as `images/{train,val}`, `masks/{train,val}`, `classes.json`."""
    render_sample(folder, images={"train": 8, "val": 4}, size=96)
    for split in ("train", "val"):
        (folder / "images" / split).mkdir()
        for picture in (folder / "images").glob(f"{split}_*.jpg"):
            picture.rename(folder / "images" / split / picture.name)
    shutil.rmtree(folder / "annotations")


def _flowers(folder: Path) -> None:
    """A folder per class; the classes are two sets of rendered pictures."""
    for name, variant in (("rose", "a"), ("tulip", "b")):
        render_sample(folder.with_name(f".{name}"), variant=variant, images={"train": 8, "val": 4}, size=64)  # type: ignore[arg-type]
        for split in ("train", "val"):
            place = folder / split / name
            place.mkdir(parents=True)
            for picture in (folder.with_name(f".{name}") / "images").glob(f"{split}_*.jpg"):
                picture.rename(place / picture.name)
        shutil.rmtree(folder.with_name(f".{name}"))


def _photos(folder: Path) -> None:
    """Three rendered pictures."""
    _pictures(folder, 3)


def _photo(file: Path) -> None:
    _pictures(file.with_suffix(".rendered"), 1)
    next(file.with_suffix(".rendered").iterdir()).rename(file)
    file.with_suffix(".rendered").rmdir()


def _pictures(folder: Path, count: int) -> None:
    scratch = folder.with_name(f".{folder.name}")
    render_sample(scratch, seed=2, images={"test": count}, size=128)
    (scratch / "images").rename(folder)
    shutil.rmtree(scratch)


def _clip(file: Path) -> None:
    """Six frames of a square that moves, 96 x 64 px."""
    video = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"mp4v"), 10, (96, 64))
    for number in range(6):
        frame = np.full((64, 96, 3), 60, np.uint8)
        frame[20:40, 8 * number : 8 * number + 20] = (40, 40, 220)
        video.write(frame)
    video.release()


def _weights(file: Path) -> None:
    """A model of 64 px that was trained nowhere."""
    recipe, classes = Recipe(imgsz=64), ClassTable((3, 7), ("striped disc", "dotted ring"))
    save_model(file, build_model(recipe, classes), classes, recipe, {})


SETUPS: Mapping[str, Callable[[Path], None]] = {
    "my-data": _my_data,
    "my-next-data": _my_next_data,
    "dirty-data": _dirty_data,
    "my-scenes": _my_scenes,
    "flowers": _flowers,
    "photos": _photos,
    "photo.jpg": _photo,
    "clip.mp4": _clip,
    "best.safetensors": _weights,
}
"""Makers of what a page's folder holds, by its name there."""


# Budgets --------------------------------------------------------------------------------------------------------------

ON_ONE_THREAD = {"--device": "cpu", "--threads": "1"}
TRAINING = {"--imgsz": "64", "--batch": "8", "--workers": "0", **ON_ONE_THREAD}
BUDGETS: Mapping[str, Mapping[str, str]] = {
    "finetune": {"--epochs": "1", **TRAINING},
    "advise": TRAINING,
    "detect": ON_ONE_THREAD,
    "segment": ON_ONE_THREAD,
    "classify": ON_ONE_THREAD,
    "evaluate": ON_ONE_THREAD,
    "compare": ON_ONE_THREAD,
    "export": {"--threads": "1"},
}
"""Said after a command's own options, whose place they take: the last word counts."""


def with_budget(words: list[str], chosen: Collection[str] = ()) -> list[str]:
    """A call of `visionkit` that takes a second or two.

    Args:
        chosen: options that have no budget here.

    >>> with_budget(["finetune", "--minutes", "15"])[:3]
    ['finetune', '--epochs', '1']
    """
    if {"--resume", "--predictions", "--help", "-h"} & set(words):
        return words  # these take no other options
    if "--minutes" in words:
        place = words.index("--minutes")
        words = words[:place] + words[place + 2 :]
    budget = BUDGETS.get(words[0], {})
    return words + [word for name, value in budget.items() if name not in chosen for word in (name, value)]


# Output ---------------------------------------------------------------------------------------------------------------


NUMBER = r"\d+(?:[.,:]\d+)*(?:e[-+]?\d+)?"


def same_words(line: str) -> str:
    """A line without what differs from run to run: numbers, hashes, the width of gaps.

    >>> same_words("AP    0.2913  AP50  n/a, 320 images at 1.5k/s")
    'AP # AP50 #, # images at #/s'
    """
    line = re.sub(r"\b[0-9a-f]{16,}\b", "#", line)
    line = re.sub(rf"(?<![\w.-])[-+]?{NUMBER}[kMG]?%?(?![\w-])|\bn/a\b", "#", line)
    return " ".join(line.split())


def told_output(text: str) -> list[tuple[str, list[str]]]:
    """The commands of a console text and the lines that each is said to print; lines of `...` stand for any."""
    told: list[tuple[str, list[str]]] = []
    for line in re.sub(r" *\\\n\s*", " ", text).split("\n"):
        if line.startswith("$ "):
            told.append((line, []))
        elif line.strip() and line.strip() != "...":
            assert told, f"a console block begins with a command, not with {line!r}"
            told[-1][1].append(line)
    return told


# The story ------------------------------------------------------------------------------------------------------------


class Story:
    """One page, run in one folder.

    Args:
        environment: of every command.
    """

    def __init__(self, folder: Path, command_line: CommandLine, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self._command_line = command_line
        self._environment = dict(environment)
        self._names: dict[str, Any] = {"__name__": "__main__"}
        self._servers: list[subprocess.Popen[bytes]] = []
        self._ports: dict[str, str] = {}

    def run(self, block: Block) -> None:
        """Run a block, or, where it is not to be run, only set the folder up."""
        for name in block.setup:
            if not (self.folder / name).exists():
                SETUPS[name](self.folder / name)
        if block.not_run is None:
            RUNNERS[block.language](self, block)

    def close(self) -> None:
        for server in self._servers:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()

    def run_shell(self, block: Block) -> None:
        calls = list(commands(block.runnable))
        for number, words in enumerate(calls, 1):
            if block.server is not None:
                self._serve(block, words, block.server)
            else:
                self._run_command(block, words, block.exit_code if number == len(calls) else 0)

    def run_console(self, block: Block) -> None:
        told = told_output(block.runnable)
        for number, (command, lines) in enumerate(told, 1):
            (words,) = commands(command)
            said = self._run_command(block, words, block.exit_code if number == len(told) else 0)
            printed = {same_words(line) for line in said.split("\n")}
            for line in lines:
                assert same_words(line) in printed, f"{block.where}: not printed any more: {line!r}, but:\n{said}"

    def run_python(self, block: Block) -> None:
        code = compile("\n" * (block.line - 1) + self._with_ports(block.runnable), str(block.page), "exec")
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(io.StringIO()):
            exec(code, self._names)

    def run_yaml(self, block: Block) -> None:
        assert block.title, f"{block.where}: a YAML block names its file, by title"
        file = self.folder / block.title
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.runnable, encoding="utf-8")
        check_yaml(file)

    def run_json(self, block: Block) -> None:
        if block.title:
            (self.folder / block.title).write_text(block.runnable, encoding="utf-8")
        json.loads(block.runnable)

    def run_text(self, block: Block) -> None:
        """Not code: a folder's tree, an error's words."""
        if block.title:
            (self.folder / block.title).write_text(block.runnable, encoding="utf-8")

    def _run_command(self, block: Block, words: list[str], exit_code: int) -> str:
        """The output and the words of a command that ends as the page says."""
        environment = dict(self._environment)
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            environment[name] = value
        target = None
        if ">" in words:
            place = words.index(">")
            words, target = words[:place], words[place + 1]
        program = words[0]
        assert program in PROGRAMS, f"{block.where}: {program} is no program that pages are run with; say why not run"
        if program == "visionkit":
            chosen = {word for _, run in block.replaced for word in run.split() if word.startswith("--")}
            done = self._command_line(*with_budget(words[1:], chosen), folder=self.folder, **environment)
            code, out, said = done.code, done.stdout, done.stderr
            assert "Traceback" not in said, f"{block.where}: {said}"
        else:
            if shutil.which(program) is None:
                pytest.skip(f"{program} is not here, which {block.where} is run with")
            plain = subprocess.run(
                [self._with_ports(word) for word in words], cwd=self.folder, capture_output=True, text=True, check=False
            )
            code, out, said = plain.returncode, plain.stdout, plain.stderr
        assert code == exit_code, f"{block.where}: {' '.join(words)} ended with {code}: {said}{out}"
        if target is not None:
            (self.folder / target).write_text(out)
        return out + "\n" + said

    def _serve(self, block: Block, words: list[str], path: str) -> None:
        """Start a command that stays, on a free port in place of the page's."""
        assert words[0] == "visionkit", f"{block.where}: servers are visionkit's"
        written = words[words.index("--port") + 1] if "--port" in words else "8000"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = self._ports[written] = str(free.getsockname()[1])
        log = self.folder / ".server"
        with log.open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "visionkit", *words[1:], "--port", port],
                cwd=self.folder,
                env={**os.environ, **self._environment},
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        self._servers.append(process)
        deadline = time.monotonic() + 60
        while not _answers(f"http://127.0.0.1:{port}{path}"):
            assert process.poll() is None, f"{block.where}: the server ended: {log.read_text()}"
            assert time.monotonic() < deadline, f"{block.where}: the server does not answer"
            time.sleep(0.1)

    def _with_ports(self, text: str) -> str:
        for written, port in self._ports.items():
            text = text.replace(f":{written}", f":{port}")
        return text


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


PROGRAMS = ("visionkit", "curl")
RUNNERS: Mapping[str, Callable[[Story, Block], None]] = {
    "bash": Story.run_shell,
    "console": Story.run_console,
    "python": Story.run_python,
    "yaml": Story.run_yaml,
    "json": Story.run_json,
    "text": Story.run_text,
}
"""What is done with a block, by its language."""


def check_yaml(file: Path) -> None:
    """Read a YAML file as the command it is for would: a dataset, settings of augmentation or a recipe.

    Raises:
        VisionkitError: it is not what it should be.
    """
    content = yaml.load(file.read_text(encoding="utf-8"), Loader=StrictLoader)
    assert isinstance(content, dict), f"{file.name} holds no settings"
    if "names" in content or any("annotations" in split for split in content.values() if isinstance(split, dict)):
        find_layout(file)
    elif set(content) <= {"base", *AUGMENT_NAMES}:
        read_augment(file)
    else:
        choices = Choices()
        choices.say(flatten(content), "file")
        choices.config()

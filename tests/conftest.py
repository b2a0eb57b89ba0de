import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# importlib mode adds no folder to the path: this lets tests share `reference_data`, `command_line` and `tiny`.
sys.path.insert(0, str(Path(__file__).parent))

from command_line import CommandLine
from tiny import TinyRun, tiny_settings, write_blocks

from visionkit.result import Result, result_schema

# Generated examples have no time of their own: machines are busy, and pytest's timeout ends what hangs.
settings.register_profile("busy", deadline=None)
settings.load_profile("busy")


@pytest.fixture(scope="session", autouse=True)
def results_obey_their_schema() -> Iterator[None]:
    """Checks each Result that a test turns into JSON against the published schema, where jsonschema is installed."""
    try:
        from jsonschema import Draft202012Validator
    except ImportError:
        yield
        return
    validator, to_json = Draft202012Validator(result_schema()), Result.to_json

    def checked(self: Result) -> dict[str, Any]:
        document = to_json(self)
        validator.validate(document)
        return document

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Result, "to_json", checked)
        yield


@pytest.fixture(scope="session")
def command_line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """Runs `visionkit` with arguments, as a process of its own."""
    command = CommandLine(tmp_path_factory.mktemp("command_line"))
    yield command
    command.close()


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures to learn from, four to judge by, two more; classes 3 `red block` and 8 `blue block`."""
    return write_blocks(tmp_path_factory.mktemp("tiny") / "data", {"train": 10, "val": 4, "test": 2})


@pytest.fixture(scope="session")
def other_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same kind with other classes: 1 `crate` and 2 `box`."""
    return write_blocks(tmp_path_factory.mktemp("tiny") / "other", {"train": 6, "val": 3}, {1: "crate", 2: "box"})


@pytest.fixture(scope="session")
def tiny_run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    """A light model trained until it sees something; tests read its folder and leave it as it is."""
    import visionkit

    said: list[str] = []
    out = tmp_path_factory.mktemp("tiny_run") / "run"
    settings = tiny_settings(epochs=20, augment="none", set=["train.evaluate_every=4", "grow_from=1"])
    result = visionkit.finetune(tiny_data, out=out, say=said.append, **settings)
    assert result is not None
    return TinyRun(result, tuple(said))

"""The front door: every public name is there, and opening it costs nothing."""

import inspect
import subprocess
import sys

import pytest

import visionkit


@pytest.mark.parametrize("name", visionkit.__all__)
def test_every_public_name_is_there_and_explained(name: str) -> None:
    value = getattr(visionkit, name)
    if name != "__version__":
        assert inspect.getdoc(value)
        assert value.__name__ == name


def test_a_name_that_is_not_there_is_an_ordinary_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'visionkit' has no attribute 'train'"):
        visionkit.train  # noqa: B018


def test_all_is_sorted_and_complete() -> None:
    assert visionkit.__all__ == sorted(visionkit.__all__)
    assert {*visionkit._HOME, "__version__"} == set(visionkit.__all__)


@pytest.mark.parametrize("room", ["torch", "cv2", "numpy", "pydantic", "typer"])
def test_import_visionkit_imports_nothing_heavy(room: str) -> None:
    code = f"import visionkit, sys; sys.exit({room!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_functions_and_commands_agree_on_names_and_defaults() -> None:
    from visionkit.api.detect import Detector
    from visionkit.cli.detect import detect

    of_command = {name: p.default for name, p in inspect.signature(detect).parameters.items()}
    of_function = {name: p.default for name, p in inspect.signature(Detector.detect).parameters.items()}
    for name in ("conf", "iou", "max_det", "classes"):
        assert of_command[name] == of_function[name], name

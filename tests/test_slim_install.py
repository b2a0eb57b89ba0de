"""The installation without PyTorch: what `constraints/slim.txt` says, and that it is enough in a fresh environment."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from visionkit.api.benchmark import draw_picture
from visionkit.bundled.files import bundled_onnx

ROOT = Path(__file__).parents[1]
SLIM = ROOT / "constraints" / "slim.txt"
SECONDS = 90


def name_of(requirement: str) -> str:
    return re.split(r"[<>=!~\[; ]", requirement)[0]


def slim() -> dict[str, str]:
    lines = SLIM.read_text().splitlines()
    return {name_of(line): line for line in lines if line and not line.startswith("#")}


def test_its_ranges_are_those_of_the_whole_installation() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [one for extra in project["optional-dependencies"].values() for one in extra]
    whole = {name_of(requirement): requirement for requirement in (*extras, *project["dependencies"])}
    assert slim() == {name: whole[name] for name in slim()}
    assert not {"torch", "torchvision", "albumentations", "matplotlib", "safetensors"} & set(slim())


def run(*command: object, folder: Path, seconds: float = SECONDS) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command], cwd=folder, capture_output=True, text=True, check=False, timeout=seconds
    )


def install(python: Path, *arguments: object) -> None:
    """Into the environment of a Python; the test is skipped where no package can be had."""
    uv = shutil.which("uv")
    command = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install", "--quiet"]
    done = run(*command, *arguments, folder=ROOT)
    if done.returncode:
        pytest.skip(f"packages cannot be installed here: {(done.stderr.strip() or 'nothing said').splitlines()[-1]}")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with visionkit and what slim.txt names."""
    folder = tmp_path_factory.mktemp("slim")
    try:
        made = run(
            sys.executable, "-m", "venv", *(["--without-pip"] if shutil.which("uv") else []), folder, folder=ROOT
        )
        if made.returncode:
            pytest.skip("this Python makes no environments")
        bin_ = folder / ("Scripts" if sys.platform == "win32" else "bin")
        install(bin_ / "python", "-r", SLIM)
        install(bin_ / "python", "--no-deps", ROOT)
    except subprocess.TimeoutExpired:
        pytest.skip(f"packages take longer than {SECONDS} s to come")
    return bin_


def test_it_detects(environment: Path, tmp_path: Path) -> None:
    if bundled_onnx() is None:
        pytest.skip("this version bundles no model")
    draw_picture(tmp_path / "picture.jpg")
    there = run(environment / "python", "-c", "import torch", folder=tmp_path)
    assert "No module named 'torch'" in there.stderr
    done = run(environment / "visionkit", "detect", "picture.jpg", "--json", "--conf", "0.02", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["items"]
    assert {path.name for path in (tmp_path / "runs/detect/detect-1").iterdir()} == {"picture.jpg", "results.json"}
    measured = run(environment / "visionkit", "benchmark", "--images", 2, "--warm-up", 0, "--json", folder=tmp_path)
    assert json.loads(measured.stdout)["runtime"].startswith("ONNX Runtime")
    assert run(environment / "visionkit", "--help", folder=tmp_path).returncode == 0

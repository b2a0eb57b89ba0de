"""What is told of a machine: from the metadata of what is installed, and of a made-up set that conflicts."""

import builtins
import json
from email.message import Message
from typing import Any

import pytest

from visionkit.api import info as api
from visionkit.api.info import Distribution, conflicts, dependencies, installed_distributions, stated_licence


def installed(*rows: tuple[str, str, str, tuple[str, ...]]) -> dict[str, Distribution]:
    return {name: Distribution(name, version, licence, requires) for name, version, licence, requires in rows}


def test_versions_are_those_that_are_imported() -> None:
    import cv2
    import numpy as np
    import torch

    found = api.info()
    assert found.versions["torch"] is not None
    assert torch.__version__.startswith(found.versions["torch"].partition("+")[0])
    assert found.versions["numpy"] == np.__version__
    assert str(found.versions["opencv"]).startswith(cv2.__version__)
    assert found.devices is not None
    assert found.devices.threads == torch.get_num_threads()
    assert found.devices.auto in {"cpu", "cuda", "mps"}
    assert {"torch", "numpy", "opencv-python-headless"} <= set(found.licences)
    assert "pytest" not in found.licences  # of the extra dev
    assert "visionkit" not in found.licences
    assert "MIT" in found.licences["albumentations"]


def test_dependencies_are_followed_with_the_extras_that_are_asked_for() -> None:
    packages = installed(
        ("top", "1", "", ("middle[fast,odd_one]>=2; python_version >= '3.11'", "absent>1", "tool>=1; extra == 'dev'")),
        ("middle", "2", "", ("low (>=1)", "quick; extra == 'fast'", 'odd; extra == "odd-one"', "no; extra == 'slow'")),
        ("low", "1", "", ("top",)),  # a circle
        ("quick", "1", "", ()),
        ("odd", "1", "", ()),
        ("no", "1", "", ()),
        ("tool", "1", "", ()),
    )  # fmt: skip
    assert dependencies("top", packages) == ["low", "middle", "odd", "quick"]
    assert dependencies("nothing", packages) == []


@pytest.mark.parametrize(
    ("fields", "licence"),
    [
        ([("License-Expression", "MIT OR BSD-3-Clause"), ("License", "old")], "MIT OR BSD-3-Clause"),
        ([("Classifier", "License :: OSI Approved :: MIT License"), ("License", "whole text")], "MIT License"),
        (
            [("Classifier", "License :: OSI Approved"), ("Classifier", "Topic :: X"), ("License", "BSD\nall of it")],
            "BSD",
        ),
        ([("License", "UNKNOWN")], ""),
        ([("License", "\n  ")], ""),
        ([], ""),
    ],
)
def test_the_licence_is_what_metadata_states(fields: list[tuple[str, str]], licence: str) -> None:
    message = Message()
    for name, value in fields:
        message[name] = value
    assert stated_licence(message) == licence  # type: ignore[arg-type]


def test_what_is_installed_here_has_no_two_opencvs_and_nothing_under_the_agpl() -> None:
    lines = conflicts(installed_distributions())
    assert not [line for line in lines if "cv2" in line or "AGPL" in line]


def test_two_opencvs_conflict() -> None:
    one = installed(("opencv-python-headless", "5.0", "Apache-2.0", ()))
    assert conflicts(one) == []
    two = one | installed(("opencv-python", "4.9", "Apache-2.0", ()))
    assert conflicts(two) == [
        "opencv-python-headless 5.0 and opencv-python 4.9 are all installed, but share one folder cv2, and removing "
        "one breaks the others; uninstall them all, then install opencv-python-headless"
    ]


def test_the_agpl_is_named_in_neutral_words() -> None:
    packages = installed(
        ("numpy", "2", "BSD", ()),
        ("ultralytics", "8.3", "", ()),
        ("some-tool", "1", "GNU Affero General Public License v3", ()),
        ("albumentationsx", "2.1", "AGPL-3.0", ()),
    )
    rest = "visionkit neither needs nor imports it; keep it only if its terms suit what you use it for"
    assert conflicts(packages) == [
        f"ultralytics 8.3 is installed under AGPL-3.0, {rest}",
        f"some-tool 1 is installed under GNU Affero General Public License v3, {rest}",
        "albumentationsx 2.1 is installed under AGPL-3.0 and takes the place of the module albumentations, which "
        "visionkit uses in its MIT-licensed version; uninstall both, then install 'albumentations>=2.0.8,<2.1'",
    ]


@pytest.mark.parametrize("pin", ["torch==2.15.0", "torch (==2.15.0)", "torch==2.15.0+cpu"])
def test_torchvision_for_another_torch(pin: str) -> None:
    def pair(version: str) -> dict[str, Distribution]:
        return installed(("torch", version, "BSD", ()), ("torchvision", "0.29", "BSD", ("numpy", pin)))

    assert conflicts(pair("2.15.0")) == conflicts(pair("2.15.0+cu130")) == []
    (line,) = conflicts(pair("2.13.0+cpu"))
    assert line.startswith("torchvision 0.29 is made for torch 2.15.0")
    assert line.endswith(", torch 2.13.0+cpu is installed; install the two together")


def test_a_torch_that_cannot_be_imported_is_said_and_the_rest_too(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_torch(name: str, *others: Any, **options: Any) -> Any:
        if name == "torch":
            raise OSError("libcudart.so: cannot open\n shared object file")
        return real(name, *others, **options)

    monkeypatch.setattr(builtins, "__import__", without_torch)
    found = api.info()
    assert found.devices is None
    assert found.versions["numpy"]
    assert found.conflicts[-1] == (
        "torch cannot be imported (libcudart.so: cannot open shared object file); install torch and torchvision again"
    )


def test_a_numpy_that_torch_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def refuse(self: torch.Tensor) -> None:
        raise RuntimeError("Numpy is not available")

    monkeypatch.setattr(torch.Tensor, "numpy", refuse)
    assert api.info().conflicts[-1] == (
        "torch and NumPy do not go together (Numpy is not available); install a NumPy that this torch knows"
    )


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from visionkit.cli.info import info

    info(json_=True)
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"visionkit", "python", "platform", "versions", "devices", "licences", "conflicts"}
    info()
    text = capsys.readouterr().out
    for heading in ("Versions", "Devices", "Licences of the installed dependencies", "No conflicts"):
        assert f"\n{heading}" in f"\n{text}"
    monkeypatch.setattr(api, "conflicts", lambda packages: ["two cats, one mouse"])
    info()
    assert capsys.readouterr().out.endswith("Conflicts\n  two cats, one mouse\n")

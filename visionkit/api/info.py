"""What a report of a problem needs to say of a machine: versions, devices, licences, conflicts."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata

from visionkit.version import __version__

PACKAGES = (
    *("torch", "torchvision", "numpy", "opencv", "onnxruntime", "albumentations", "pycocotools"),
    *("pillow", "pydantic", "safetensors"),
)
"""Whose versions are told; `opencv` stands for whichever of OPENCV is there."""

OPENCV = (
    *("opencv-python-headless", "opencv-python"),
    *("opencv-contrib-python-headless", "opencv-contrib-python"),
)
"""Distributions that all install the module `cv2`."""

SUCCESSOR = "albumentationsx"
"""Of albumentations, under the AGPL; both install the module `albumentations`."""

LONGEST_LICENCE = 60


@dataclass(frozen=True, slots=True)
class Distribution:
    """An installed package.

    Args:
        name: normalised: lower case, hyphens.
        licence: as its metadata says; empty where that says nothing.
        requires: what it asks for, as in its metadata, `torch>=2.11,<3; extra == "dev"`.
    """

    name: str
    version: str
    licence: str
    requires: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Devices:
    """What there is to calculate on.

    Args:
        cores: CPU cores this process may use.
        threads: CPU threads torch uses where `--threads` says nothing.
        bf16: whether the CPU has bf16 arithmetic in hardware.
        cuda: names of CUDA devices, in order.
        mps: whether Apple's GPU can be used.
        auto: what `--device auto` chooses.
    """

    cores: int
    threads: int
    bf16: bool
    cuda: tuple[str, ...]
    mps: bool
    auto: str


@dataclass(frozen=True, slots=True)
class Info:
    """What `visionkit info` says.

    Args:
        versions: by package; None where it is not installed.
        devices: None where torch cannot be imported; a conflict says why.
        licences: of visionkit's installed dependencies, theirs included, by name.
        conflicts: a line each; empty where all is well.
    """

    visionkit: str
    python: str
    platform: str
    versions: Mapping[str, str | None]
    devices: Devices | None
    licences: Mapping[str, str]
    conflicts: tuple[str, ...]


def info() -> Info:
    """Look at this machine. Nothing is asked of the network."""
    installed = installed_distributions()
    devices, trouble = _devices()
    return Info(
        visionkit=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        versions={name: _version(name, installed) for name in PACKAGES},
        devices=devices,
        licences={
            name: installed[name].licence or "not stated in its metadata"
            for name in dependencies("visionkit", installed)
        },
        conflicts=(*conflicts(installed), *trouble),
    )


def installed_distributions() -> dict[str, Distribution]:
    """What is installed for this Python, by normalised name; of several of a name, the one that is imported."""
    found: dict[str, Distribution] = {}
    for distribution in metadata.distributions():
        name = normalised(distribution.metadata["Name"] or "")
        if name and name not in found:
            found[name] = Distribution(
                name, distribution.version, stated_licence(distribution.metadata), tuple(distribution.requires or ())
            )
    return found


def normalised(name: str) -> str:
    """A package's name as PEP 503 compares it.

    >>> normalised("PyYAML"), normalised("typing_extensions")
    ('pyyaml', 'typing-extensions')
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def stated_licence(message: metadata.PackageMetadata) -> str:
    """The licence that a package's metadata states: its expression (PEP 639), else its classifiers, else its text.

    Of a whole licence in the old text field, the first line.
    """
    for expression in message.get_all("License-Expression") or ():
        return str(expression)
    prefix = "License :: "
    classifiers = [
        text.rpartition(" :: ")[2] for text in message.get_all("Classifier") or () if text.startswith(prefix)
    ]
    classifiers = [name for name in classifiers if name != "OSI Approved"]
    if classifiers:
        return ", ".join(classifiers)
    first = "".join(message.get_all("License") or ()).strip().partition("\n")[0].strip()
    return "" if first == "UNKNOWN" else first[:LONGEST_LICENCE]


def dependencies(name: str, installed: Mapping[str, Distribution]) -> list[str]:
    """Normalised names of what a package needs, directly or not, as far as it is installed; sorted.

    Its own extras are left out; those that a package asks of another (`cuda-toolkit[cublas]`) count.
    """
    found: set[tuple[str, str]] = set()
    waiting = [(name, "")]
    while waiting:
        package, extra = waiting.pop()
        for requirement in installed[package].requires if package in installed else ():
            wanted, extras, of_extra = _parsed(requirement)
            if wanted not in installed or of_extra not in {None, extra}:
                continue
            new = {(wanted, one) for one in ("", *extras)} - found
            found |= new
            waiting += new
    return sorted({wanted for wanted, _ in found} - {name})


def conflicts(installed: Mapping[str, Distribution]) -> list[str]:
    """What among the installed packages stands in each other's way, or carries terms to know of: a line each."""
    lines = []
    opencv = [f"{name} {installed[name].version}" for name in OPENCV if name in installed]
    if len(opencv) > 1:
        lines.append(
            f"{' and '.join(opencv)} are all installed, but share one folder cv2, and removing one breaks the others; "
            f"uninstall them all, then install {OPENCV[0]}"
        )
    for package in installed.values():
        # By name too: not every version of it states its licence in the metadata.
        affero = package.name == "ultralytics" or re.search("agpl|affero", package.licence, re.IGNORECASE)
        if affero and package.name != SUCCESSOR:
            lines.append(
                f"{package.name} {package.version} is installed under {package.licence or 'AGPL-3.0'}, visionkit "
                "neither needs nor imports it; keep it only if its terms suit what you use it for"
            )
    if SUCCESSOR in installed:
        lines.append(
            f"{SUCCESSOR} {installed[SUCCESSOR].version} is installed under "
            f"{installed[SUCCESSOR].licence or 'AGPL-3.0'} and takes the place of the module albumentations, which "
            "visionkit uses in its MIT-licensed version; uninstall both, then install 'albumentations>=2.0.8,<2.1'"
        )
    lines += _torch_pair(installed)
    return lines


def _torch_pair(installed: Mapping[str, Distribution]) -> Iterable[str]:
    """torchvision's compiled operators load into one version of torch only, which its metadata names."""
    if "torch" not in installed or "torchvision" not in installed:
        return
    pins = [re.fullmatch(r"torch\s*\(?==\s*([^\s;,)]+)\)?", r) for r in installed["torchvision"].requires]
    # A local version, 2.15.0+cpu, is the same release built otherwise.
    have = installed["torch"].version.partition("+")[0]
    for pin in filter(None, pins):
        if pin[1].partition("+")[0] != have:
            yield (
                f"torchvision {installed['torchvision'].version} is made for torch {pin[1]}, torch "
                f"{installed['torch'].version} is installed; install the two together"
            )


def _devices() -> tuple[Devices | None, Sequence[str]]:
    """The devices, and what went wrong on the way: this is run where something is broken, and must say what."""
    try:
        import torch  # noqa: PLC0415 - the one import that may fail here

        from visionkit.engine.device import choose_device, has_bf16  # noqa: PLC0415
    except Exception as error:
        return None, [f"torch cannot be imported ({_one_line(error)}); install torch and torchvision again"]
    trouble = []
    try:
        torch.zeros(1).numpy()
    except RuntimeError as error:  # torch built for another major version of NumPy
        trouble.append(
            f"torch and NumPy do not go together ({_one_line(error)}); install a NumPy that this torch knows"
        )
    devices = Devices(
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        bf16=has_bf16(torch.device("cpu")),
        cuda=tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())),
        mps=torch.backends.mps.is_available(),
        auto=choose_device("auto").type,
    )
    return devices, trouble


def _version(name: str, installed: Mapping[str, Distribution]) -> str | None:
    if name == "opencv":
        versions = [f"{installed[one].version} ({one})" for one in OPENCV if one in installed]
        return ", ".join(versions) or None
    return installed[name].version if name in installed else None


def _parsed(requirement: str) -> tuple[str, list[str], str | None]:
    """Of `a[b,c]>=2; extra == "d"` the name a, the extras b and c it is asked for, and the extra d that asks for it."""
    wanted, _, marker = requirement.partition(";")
    found = re.match(r"\s*([A-Za-z0-9._-]+)\s*(?:\[([^\]]*)\])?", wanted)
    extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", marker)
    name, extras = (found[1], found[2] or "") if found else ("", "")
    return (
        normalised(name),
        [normalised(one.strip()) for one in extras.split(",") if one],
        extra and normalised(extra[1]),
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__

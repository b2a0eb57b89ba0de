"""Weights that others publish, which `--weights` takes by name: what they are, where they lie, how to know them.

No file of these is part of visionkit; each is downloaded from its publisher when it is asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SHA256_DIGITS = 64

IMAGENET_WEIGHTS = "imagenet"
"""Their name for `--weights`; which file it means, the backbone decides."""

TORCHVISION_LICENCE = (
    "published by torchvision, whose code is BSD-3-Clause, without terms of their own; learnt from ImageNet, which is "
    "given out for non-commercial research and education only"
)


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A file of weights on its publisher's server.

    Args:
        url: its last part is the name of the file.
        sha256: in lower case hexadecimal; all 64 digits, or the first 8 where no more is known.
        size: bytes.
        size_within: by how many bytes `size` may be off; 0 where it is known exactly.
        licence: under which it may be used, in words.
        scores: what its publisher measured, by name, in 0..1.
    """

    url: str
    sha256: str
    size: int
    size_within: int
    licence: str
    scores: Mapping[str, float]

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def size_in_words(self) -> str:
        """`46,830,571 bytes`, or `about 531.5 MB` where no more is known."""
        return f"about {self.size / 1e6:.1f} MB" if self.size_within else f"{self.size:,} bytes"

    @property
    def sha256_in_words(self) -> str:
        """The digits, and how many they are where they are not all."""
        if len(self.sha256) == SHA256_DIGITS:
            return f"SHA-256 {self.sha256}"
        return f"SHA-256 {self.sha256}... (first {len(self.sha256)} digits of SHA-256 known)"

    def has_size(self, size: int) -> bool:
        """Whether a file of so many bytes may be this one."""
        return abs(size - self.size) <= self.size_within

    def difference(self, path: Path) -> str | None:
        """What tells a file on the disk from this one, in words: `has 12 bytes, not 46,830,571 bytes`; None where
        nothing does."""
        size = path.stat().st_size
        if not self.has_size(size):
            return f"has {size:,} bytes, not {self.size_in_words}"
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return None if digest.startswith(self.sha256) else f"has SHA-256 {digest}, not {self.sha256}"


def _exact(name: str, sha256: str, size: int, top1: float) -> PublishedFile:
    return _of_torchvision(name, sha256, size, 0, top1)


def _rounded(name: str, sha256: str, mebibytes: float, top1: float) -> PublishedFile:
    """Of this one, torchvision's documentation has the size, to a thousandth of a MiB: 524 bytes more or less."""
    return _of_torchvision(name, sha256, round(mebibytes * 2**20), 525, top1)


def _of_torchvision(name: str, sha256: str, size: int, within: int, top1: float) -> PublishedFile:
    url = f"https://download.pytorch.org/models/{name}"
    return PublishedFile(url, sha256, size, within, TORCHVISION_LICENCE, {"top1": top1})


# Where a file's name has eight digits of its SHA-256, all 64 must go on with them. They and the exact sizes are those
# that users of the files measured and published; where none was found, the 8 digits are all there is.
IMAGENET: dict[str, PublishedFile] = {
    "alexnet": _exact(
        "alexnet-owt-7be5be79.pth",
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        244_408_911,
        0.56522,
    ),
    "vgg11": _rounded("vgg11-8a719046.pth", "8a719046", 506.84, 0.6902),
    "vgg13": _rounded("vgg13-19584684.pth", "19584684", 507.545, 0.69928),
    "vgg16": _exact(
        "vgg16-397923af.pth",
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        553_433_881,
        0.71592,
    ),
    "vgg19": _exact(
        "vgg19-dcbb9e9d.pth",
        "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
        574_673_361,
        0.72376,
    ),
    "vgg11-bn": _rounded(
        "vgg11_bn-6002323d.pth",
        "6002323d9413ae02f657473d3ecbbd7f86ee496b8a0dc8dc6140a639a0fcf13d",
        506.881,
        0.7037,
    ),
    "vgg13-bn": _rounded("vgg13_bn-abd245e5.pth", "abd245e5", 507.59, 0.71586),
    "vgg16-bn": _exact(
        "vgg16_bn-6c64b313.pth",
        "6c64b3138f2f4fcb3bcc4cafde11619c4f440eb1631787e93a682fd88305888a",
        553_507_836,
        0.7336,
    ),
    "vgg19-bn": _exact(
        "vgg19_bn-c79401a0.pth",
        "c79401a0cf3cb42714e4182f5868c7a6f4f4534f5df9e956e2bb2098de41cbb6",
        574_769_405,
        0.74218,
    ),
    "googlenet": _rounded(
        "googlenet-1378be20.pth",
        "1378be20a8e875cf1568b8a71654e704449655e34711a959a38b04fb34905cef",
        49.731,
        0.69778,
    ),
    "resnet18": _exact(
        "resnet18-f37072fd.pth",
        "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
        46_830_571,
        0.69758,
    ),
    "resnet34": _exact(
        "resnet34-b627a593.pth",
        "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f",
        87_319_819,
        0.73314,
    ),
    "resnet50": _exact(
        "resnet50-11ad3fa6.pth",
        "11ad3fa62ca79e40addfd354a8ec4b7c75143b3038b8d2a807fbc68deab379ca",
        102_540_417,
        0.80858,
    ),
    "resnet101": _rounded(
        "resnet101-cd907fc2.pth",
        "cd907fc2a0de2292b2ba2b27d2216bc672d84632d1cf20058d01c0c03b5e020e",
        170.53,
        0.81886,
    ),
    "resnet152": _rounded("resnet152-f82ba261.pth", "f82ba261", 230.474, 0.82284),
    "mobilenetv3-small": _exact(
        "mobilenet_v3_small-047dcff4.pth",
        "047dcff4addef86ea5bc2eff13c9614dc11f47ab1160d0a71a25e7db994f4e1f",
        10_306_551,
        0.67668,
    ),
    "mobilenetv3-large": _exact(
        "mobilenet_v3_large-5c1a4163.pth",
        "5c1a416349c4cf298f2a6a5e2600ed0ee55e604713578f5e74e6bc8bcaef7997",
        22_132_113,
        0.75274,
    ),
    "efficientnet-b0": _exact(
        "efficientnet_b0_rwightman-7f5810bc.pth",
        "7f5810bc96def8f7552d5b7e68d53c4786f81167d28291b21c0d90e1fca14934",
        21_444_401,
        0.77692,
    ),
    "convnext-tiny": _exact(
        "convnext_tiny-983f1562.pth",
        "983f1562536e84ff750a1576fb08e54de751dbf2e17c0d8a4a13704341fdcd3d",
        114_419_221,
        0.8252,
    ),
}
"""By backbone, the file that torchvision takes as its default: `IMAGENET1K_V2` where there is one, else `_V1`."""

"""The list of published weights against what torchvision says of them."""

from pathlib import Path
from typing import get_args

import pytest
import torchvision

from visionkit.backbones.names import BackboneName
from visionkit.published.weights import IMAGENET, PublishedFile

FEW_DIGITS = {"vgg11", "vgg13", "vgg13-bn", "resnet152"}


def name_in_torchvision(backbone: str) -> str:
    """Its name there; whether it is there too is another matter.

    >>> name_in_torchvision("mobilenetv3-small"), name_in_torchvision("vgg11-bn")
    ('mobilenet_v3_small', 'vgg11_bn')
    """
    return backbone.replace("mobilenetv3", "mobilenet_v3").replace("-", "_")


def test_every_backbone_that_torchvision_publishes_is_listed_and_no_other() -> None:
    there = torchvision.models.list_models()
    assert set(IMAGENET) == {name for name in get_args(BackboneName) if name_in_torchvision(name) in there}


@pytest.mark.parametrize("backbone", IMAGENET)
def test_an_entry_says_what_torchvision_says(backbone: str) -> None:
    ours, theirs = IMAGENET[backbone], torchvision.models.get_model_weights(name_in_torchvision(backbone)).DEFAULT
    assert ours.url == theirs.url
    # In MiB to three decimals: half of the last is 0.0005 * 1,048,576 = 524.3 bytes.
    assert abs(ours.size - theirs.meta["_file_size"] * 2**20) <= 525
    assert ours.scores == {"top1": pytest.approx(theirs.meta["_metrics"]["ImageNet-1K"]["acc@1"] / 100, abs=1e-9)}
    # Four bytes a parameter, and less than 1 % for names and statistics (but 3 % in the smallest networks).
    assert 1 < ours.size / (4 * theirs.meta["num_params"]) < 1.03 or backbone == "googlenet"  # it has aux heads too


@pytest.mark.parametrize("backbone", IMAGENET)
def test_the_digits_are_a_sha256_that_goes_on_with_those_in_the_name(backbone: str) -> None:
    file = IMAGENET[backbone]
    assert len(file.sha256) == (8 if backbone in FEW_DIGITS else 64)
    assert int(file.sha256, 16) >= 0
    assert file.sha256 == file.sha256.lower()
    assert file.name.removesuffix(".pth").endswith(file.sha256[:8])


def published(body: bytes, sha256: str, size_within: int = 0) -> PublishedFile:
    return PublishedFile("https://example.org/a/net.pth", sha256, len(body), size_within, "", {})


# printf abc | sha256sum
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    ("file", "content", "difference"),
    [
        (published(b"abc", ABC), b"abc", None),
        (published(b"abc", ABC[:8]), b"abc", None),
        (published(b"abc", ABC), b"abcd", "has 4 bytes, not 3 bytes"),
        (published(b"abcd", ABC, size_within=1), b"abc", None),
        (published(b"a" * 1_500_000, ABC, size_within=525), b"abc", "has 3 bytes, not about 1.5 MB"),
        (published(b"xyz", "0" * 64), b"abc", f"has SHA-256 {ABC}, not {'0' * 64}"),
    ],
)
def test_what_tells_a_file_from_the_published_one(
    file: PublishedFile, content: bytes, difference: str | None, tmp_path: Path
) -> None:
    path = tmp_path / file.name
    path.write_bytes(content)
    assert file.difference(path) == difference


def test_a_hash_that_is_known_in_part_is_said_to_be() -> None:
    assert published(b"abc", ABC).sha256_in_words == f"SHA-256 {ABC}"
    assert published(b"abc", ABC[:8]).sha256_in_words == "SHA-256 ba7816bf... (first 8 digits of SHA-256 known)"
    assert published(b"a" * 46_830_571, ABC).size_in_words == "46,830,571 bytes"

"""Pixels 0..255 to ImageNet's mean 0 and deviation 1."""

import pytest
import torch
import torchvision

from visionkit.nn.normalize import Normalize


def test_by_hand() -> None:
    # Red: 0 -> -0.485 / 0.229, 255 -> (1 - 0.485) / 0.229.
    black_and_white = torch.tensor([0, 255], dtype=torch.uint8).expand(1, 3, 1, 2)
    red, green, blue = Normalize()(black_and_white)[0, :, 0].tolist()
    assert red == pytest.approx([-0.485 / 0.229, 0.515 / 0.229], abs=1e-5)
    assert green == pytest.approx([-0.456 / 0.224, 0.544 / 0.224], abs=1e-5)
    assert blue == pytest.approx([-0.406 / 0.225, 0.594 / 0.225], abs=1e-5)


def test_equals_torchvisions_preset_for_its_checkpoints() -> None:
    images = torch.randint(256, (2, 3, 5, 7), dtype=torch.uint8)
    preset = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    torch.testing.assert_close(Normalize()(images), preset(images / 255), rtol=0, atol=1e-5)


def test_bytes_and_floats_mean_the_same() -> None:
    images = torch.randint(256, (2, 3, 4, 4), dtype=torch.uint8)
    assert torch.equal(Normalize()(images), Normalize()(images.float()))


def test_constants_are_not_weights() -> None:
    assert not Normalize().state_dict()
    assert not list(Normalize().parameters())


def test_constants_follow_the_model_to_another_precision() -> None:
    assert Normalize().bfloat16()(torch.zeros(1, 3, 2, 2, dtype=torch.uint8)).dtype == torch.bfloat16


def test_gradient_reaches_the_pixels() -> None:
    images = torch.zeros(1, 3, 1, 1, requires_grad=True)
    Normalize()(images).sum().backward()
    expected = [1 / (255 * 0.229), 1 / (255 * 0.224), 1 / (255 * 0.225)]
    assert images.grad.flatten().tolist() == pytest.approx(expected)


def test_no_image() -> None:
    assert Normalize()(torch.zeros(0, 3, 4, 4, dtype=torch.uint8)).shape == (0, 3, 4, 4)

"""Squeeze and excitation, stochastic depth: against references written out."""

import torch
import torchvision

from visionkit.nn.activations import ACTIVATIONS
from visionkit.nn.squeeze_excitation import SqueezeExcitation


def test_by_hand() -> None:
    se = SqueezeExcitation(2, 1)
    with torch.no_grad():
        se.fc1.weight.copy_(torch.tensor([1.0, -1.0]).view(1, 2, 1, 1))
        se.fc1.bias.fill_(0.5)
        se.fc2.weight.copy_(torch.tensor([1.0, 0.0]).view(2, 1, 1, 1))
        se.fc2.bias.zero_()
    x = torch.tensor([[[[2.0, 4.0]], [[1.0, 1.0]]]])
    # Means 3 and 1; squeezed relu(3 - 1 + 0.5) = 2.5; gates sigmoid(2.5) = 0.92414 and sigmoid(0) = 0.5.
    expected = torch.tensor([[[[1.84828, 3.69657]], [[0.5, 0.5]]]])
    torch.testing.assert_close(se(x), expected, rtol=0, atol=1e-5)


def test_equals_torchvisions() -> None:
    for gate, peer_gate in (("sigmoid", torch.nn.Sigmoid), ("hard-sigmoid", torch.nn.Hardsigmoid)):
        peer = torchvision.ops.SqueezeExcitation(8, 3, scale_activation=peer_gate)
        ours = SqueezeExcitation(8, 3, gate=ACTIVATIONS[gate])
        ours.load_state_dict(peer.state_dict())
        x = torch.randn(2, 8, 5, 7)
        torch.testing.assert_close(ours(x), peer(x))
        assert ours(x[:0]).shape == (0, 8, 5, 7)


def test_images_do_not_hear_of_each_other() -> None:
    se = SqueezeExcitation(4, 2)
    x = torch.randn(3, 4, 5, 5)
    torch.testing.assert_close(se(x), torch.cat([se(image[None]) for image in x]))


def test_gradients() -> None:
    se = SqueezeExcitation(3, 2, activation=ACTIVATIONS["tanh"]).double()
    assert torch.autograd.gradcheck(se, torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True))

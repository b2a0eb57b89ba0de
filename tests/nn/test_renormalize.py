"""Another network's normalisation of the same pixels."""

import torch

from visionkit.nn.normalize import Normalize
from visionkit.nn.renormalize import Renormalize


def test_pixels_come_out_as_the_other_network_wants_them() -> None:
    pixels = torch.tensor([0.0, 127.5, 255.0]).expand(1, 3, 2, 3)
    # (0 / 255 - 0.5) / 0.5 = -1; 127.5 is the middle; 255 gives 1.
    expected = torch.tensor([-1.0, 0.0, 1.0]).expand(1, 3, 2, 3)
    renormalize = Renormalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    torch.testing.assert_close(renormalize(Normalize()(pixels)), expected, rtol=0, atol=1e-6)
    other = Renormalize((0.1, 0.2, 0.3), (0.2, 0.3, 0.4))(Normalize()(pixels))
    # White: (1 - 0.1) / 0.2 = 4.5, (1 - 0.2) / 0.3 = 2.66667, (1 - 0.3) / 0.4 = 1.75
    torch.testing.assert_close(other[0, :, 0, 2], torch.tensor([4.5, 2.66667, 1.75]), rtol=0, atol=1e-5)


def test_imagenets_own_is_the_identity_and_not_in_the_state_dict() -> None:
    same = Renormalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    images = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(same(images), images, rtol=1e-5, atol=1e-5)
    assert not same.state_dict()

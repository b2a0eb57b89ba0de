"""Batch norms over several processes; what two of them do together is in `tests/engine/distributed_checks.py`."""

import copy

import pytest
import torch
from torch import Tensor, nn

from visionkit.nn.freeze import NORM_LAYERS
from visionkit.nn.sync_batch_norm import SyncBatchNorm2d, sync_batch_norms
from visionkit.ops.global_count import learning_together


class Alone:
    """A group of one."""

    rank, world_size = 0, 1

    def sum(self, tensor: Tensor) -> Tensor:
        return tensor.clone()


def pair(channels: int = 3) -> tuple[nn.BatchNorm2d, SyncBatchNorm2d]:
    plain = nn.BatchNorm2d(channels, momentum=0.2)
    nn.init.uniform_(plain.weight)
    nn.init.uniform_(plain.bias)
    synced = nn.Sequential(copy.deepcopy(plain))
    assert sync_batch_norms(synced) == 1
    return plain, synced[0]  # type: ignore[return-value]


def test_without_others_it_is_a_batch_norm_to_the_last_bit() -> None:
    plain, synced = pair()
    for _ in range(2):
        x = torch.randn(4, 3, 5, 5)
        assert torch.equal(synced(x), plain(x))
    assert torch.equal(synced.eval()(x), plain.eval()(x))
    for name, tensor in plain.state_dict().items():
        assert torch.equal(synced.state_dict()[name], tensor)


@pytest.mark.parametrize("shape", [(4, 3, 5, 5), (1, 3, 2, 1), (7, 3, 1, 1)])
def test_in_a_group_of_one_it_is_one_but_for_rounding(shape: tuple[int, ...]) -> None:
    plain, synced = (norm.double() for norm in pair())
    x = torch.randn(shape, dtype=torch.float64)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    with learning_together(Alone()):
        said = synced(ours)
    wanted = torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(said, plain(theirs))
    (said * wanted).sum().backward()
    (plain(theirs) * wanted).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_half_precision_is_measured_in_single() -> None:
    _, synced = pair()
    x = 1000 + torch.randn(4, 3, 5, 5)
    with learning_together(Alone()):
        said = synced(x.bfloat16())
    assert said.dtype == torch.bfloat16
    assert torch.isfinite(said).all()


def test_in_eval_nobody_is_asked() -> None:
    plain, synced = pair()
    x = torch.randn(2, 3, 4, 4)
    with learning_together(Alone()):
        assert torch.equal(synced.eval()(x), plain.eval()(x))
    assert int(synced.num_batches_tracked) == 0


def test_the_tensors_of_a_model_stay_the_ones_they_are() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()), nn.GroupNorm(2, 4)).eval()
    tensors = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    assert sync_batch_norms(model) == 1
    assert {name: tensor.data_ptr() for name, tensor in model.state_dict().items()} == tensors
    norm = model[1][0]
    assert isinstance(norm, SyncBatchNorm2d)
    assert isinstance(norm, NORM_LAYERS)  # freezing counts it
    assert not norm.training
    assert sync_batch_norms(model) == 0

"""What two processes must do alike; `test_distributed.py` starts this file in each of them, under torchrun.

Each check runs in both. One that fails ends its process, and torchrun the other.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from visionkit.classes import ClassTable
from visionkit.engine.broken_steps import DivergedError, Statistics
from visionkit.engine.distributed import TorchProcesses, joined_processes, sum_gradients, take_over
from visionkit.engine.evaluate_together import own_part
from visionkit.engine.events import StepDone
from visionkit.engine.interruption import InterruptedRunError, StopRequest
from visionkit.engine.settings import TrainSettings
from visionkit.engine.train import TrainingState, train
from visionkit.imaging.letterbox import Frame
from visionkit.metrics.classification import classification_scores
from visionkit.metrics.coco_map import CocoScores
from visionkit.metrics.task_scores import TaskScores
from visionkit.models.classifier import Classifier
from visionkit.models.retinanet import RetinaNet
from visionkit.models.yolo import Yolo
from visionkit.nn.norms import group_norm
from visionkit.nn.sync_batch_norm import SyncBatchNorm2d, sync_batch_norms
from visionkit.ops.global_count import global_count, learning_together, share_of_batch, together
from visionkit.types import Batch, Level, Losses, Target, Unit

CPU = torch.device("cpu")


def check_sums_and_counts(processes: TorchProcesses) -> None:
    rank = processes.rank
    given = torch.tensor([1.0 + rank, 10.0])
    assert processes.sum(given).tolist() == [3.0, 20.0]  # 1 + 2, 10 + 10
    assert given.tolist() == [1.0 + rank, 10.0]
    assert [processes.any(rank == 1), processes.any(False)] == [True, False]
    assert processes.least(5 - rank) == 4
    assert processes.gathered(f"from {rank}") == (["from 0", "from 1"] if rank == 0 else None)
    assert processes.from_first(lambda: rank) == 0
    assert global_count(7) == 7  # outside of a step each counts for itself
    with learning_together(processes):
        assert together() is processes
        assert global_count(3 + rank) == 7
        assert global_count(torch.tensor(2.5)).item() == 5.0
        assert share_of_batch(1 + 2 * rank) == (1 + 2 * rank) / 4  # 1 of 1 + 3, 3 of 1 + 3
    assert together() is None


def check_what_the_first_raises_all_raise(processes: TorchProcesses) -> None:
    def fail() -> None:
        raise ValueError("a fact")

    with pytest.raises(ValueError, match=r"^a fact$"):
        processes.from_first(fail)


def check_gradients_are_summed_and_none_stays_none(processes: TorchProcesses) -> None:
    rank = processes.rank
    both, one, nobody = (nn.Parameter(torch.zeros(2, 3, 2, 2)) for _ in range(3))
    both.grad = torch.full_like(both, 1.0 + rank).contiguous(memory_format=torch.channels_last)
    if rank == 1:
        one.grad = torch.full_like(one, 5.0)
    sum_gradients([both, one, nobody], processes)
    assert both.grad.unique().tolist() == [3.0]
    assert one.grad is not None
    assert one.grad.unique().tolist() == [5.0]
    assert nobody.grad is None
    sum_gradients([], processes)


def check_statistics_are_averaged_and_what_did_not_move_keeps_its_bits(processes: TorchProcesses) -> None:
    model = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2))
    model[1].running_mean.fill_(0.1)  # a third of it is not exact
    statistics = Statistics(model)
    model[0].running_mean += 1.0 + processes.rank
    statistics.average(processes)
    assert model[0].running_mean.tolist() == [1.5, 1.5]
    assert torch.equal(model[1].running_mean, torch.full((2,), 0.1))


def check_all_begin_with_the_first_ones_tensors(processes: TorchProcesses) -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    values = torch.arange(72.0).view(4, 2, 3, 3)
    with torch.no_grad():
        model[0].weight.copy_(values + processes.rank)
    model[1].num_batches_tracked.fill_(7 * processes.rank)
    take_over((model,), processes)
    assert torch.equal(model[0].weight, values)
    assert int(model[1].num_batches_tracked) == 0


def check_parts_of_a_split(processes: TorchProcesses) -> None:
    assert list(own_part(5, processes)) == ([0, 1] if processes.rank == 0 else [2, 3, 4])
    assert len(own_part(1, processes)) == processes.rank  # one has nothing


# Norms ----------------------------------------------------------------------------------------------------------------


def check_a_synced_norm_is_one_over_the_whole_batch(processes: TorchProcesses) -> None:
    """Values, gradients and running statistics; parts of different sizes."""
    generator = torch.Generator().manual_seed(3)
    whole = 5 + 2 * torch.randn(5, 3, 4, 4, generator=generator, dtype=torch.float64)
    wanted_grad = torch.randn(5, 3, 4, 4, generator=generator, dtype=torch.float64)
    part = slice(0, 2) if processes.rank == 0 else slice(2, 5)
    plain, synced = nn.BatchNorm2d(3).double(), SyncBatchNorm2d(3).double()
    for norm in (plain, synced):
        nn.init.constant_(norm.weight, 1.5)
    x = whole.clone().requires_grad_()
    (plain(x) * wanted_grad).sum().backward()
    own = whole[part].clone().requires_grad_()
    with learning_together(processes):
        said = synced(own)
    (said * wanted_grad[part]).sum().backward()
    torch.testing.assert_close(said, plain(whole)[part])
    torch.testing.assert_close(own.grad, x.grad[part])
    for name in ("weight", "bias"):  # each has its own part of these: the loop adds them up
        total = processes.sum(getattr(synced, name).grad)
        torch.testing.assert_close(total, getattr(plain, name).grad)
    fresh = nn.BatchNorm2d(3).double()
    fresh(whole)
    torch.testing.assert_close(synced.running_mean, fresh.running_mean)
    torch.testing.assert_close(synced.running_var, fresh.running_var)
    assert int(synced.num_batches_tracked) == 1


# Whole models ---------------------------------------------------------------------------------------------------------


class Backbone(nn.Module):
    """Three levels with one norm."""

    def __init__(self, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 8, padding=1, bias=False), norm(8), nn.ReLU())
        self.deeper = nn.ModuleList(
            nn.Sequential(nn.Conv2d(8, 8, 3, 2, padding=1, bias=False), norm(8), nn.ReLU()) for _ in range(2)
        )
        self.levels = tuple(Level(8, stride) for stride in (8, 16, 32))
        self.units = (Unit("stem", ("stem",)), Unit("deeper", ("deeper",)))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [self.stem(x)]
        for block in self.deeper:
            maps.append(block(maps[-1]))
        return maps


def made(make: Callable[..., nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    model = make(Backbone(group_norm), 2)
    sync_batch_norms(model)  # those of neck and head
    return model


def images(count: int, label: bool = False) -> Batch:
    """Unevenly many objects: of eight images one half has twelve, the other one."""
    generator = torch.Generator().manual_seed(5)
    counts = [1] * count if label else [4, 0, 5, 3, 0, 1, 0, 0][:count]
    targets = []
    for objects in counts:
        corner = 32 * torch.rand(objects, 2, generator=generator)
        boxes = torch.cat((corner, corner + 16 + 16 * torch.rand(objects, 2, generator=generator)), 1)
        labels = torch.randint(2, (objects,), generator=generator)
        targets.append(Target(boxes, labels, torch.zeros(objects, dtype=torch.bool)))
    pixels = torch.randint(256, (count, 3, 64, 64), generator=generator, dtype=torch.uint8)
    return Batch(pixels, tuple(targets), (Frame(64, 64, 1.0, 1.0, 0, 0),) * count, tuple(range(count)))


def half(batch: Batch, rank: int) -> Batch:
    own = slice(0, 4) if rank == 0 else slice(4, 8)
    return Batch(batch.images[own], batch.targets[own], batch.frames[own], batch.image_ids[own])


class Same:
    """The same batch three times an epoch."""

    batches_per_epoch = 3

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def start(self, epoch: int, batch: int) -> Iterator[Batch]:
        while True:
            yield self.batch


def judged(model: nn.Module) -> TaskScores:
    """Some scores, of the model's task."""
    if isinstance(model, Classifier):
        return classification_scores(np.array([0, 1]), np.eye(2, dtype=np.float32), ClassTable((1, 2), ("a", "b")))
    return CocoScores("bbox", 4, 0.5, *(None,) * 11, mean_iou_matched=None, per_class={})


def trained(model: nn.Module, batch: Batch, processes: TorchProcesses | None, **how: Any) -> TrainingState:
    """Two epochs; the state has a history."""
    values = {"epochs": 2, "lr": 1e-3, "amp": False, "warmup_epochs": 0, **how.pop("settings", {})}
    settings = TrainSettings.model_validate(values)
    state = TrainingState.begin(model, settings, 3)
    train(
        state, Same(batch), settings, device=CPU,
        evaluate=judged,
        save_state=how.get("save_state", lambda state: None), save_epoch=lambda *_: None,
        listen=how.get("listen", lambda event: None), stop=how.get("stop"), processes=processes,
    )  # fmt: skip
    return state


def check_two_halves_are_one_whole(processes: TorchProcesses) -> None:
    """Weights, averages and losses of two processes with half a batch each are those of one with all of it, but for the
    order in which sums are taken: 1e-4 of each weight, and 2e-5, after six steps."""
    for make, optimizer, accumulate in ((Yolo, "muon", 1), (RetinaNet, "sgd", 2), (Classifier, "adamw", 1)):
        whole = images(8, label=make is Classifier)
        how = {"settings": {"optimizer": optimizer, "accumulate": accumulate}}
        options = {"dropout": 0.0} if make is Classifier else {}

        def build(backbone: nn.Module, classes: int, make: Any = make, options: Any = options) -> nn.Module:
            return make(backbone, classes, **options)

        together_ = trained(made(build), half(whole, processes.rank), processes, **how)
        alone = trained(made(build), whole, None, **how)
        for name, tensor in alone.model.state_dict().items():
            ours = together_.model.state_dict()[name]
            torch.testing.assert_close(ours, tensor, rtol=1e-4, atol=2e-5, msg=lambda m, n=name, k=make: f"{k} {n} {m}")
        for name, tensor in alone.average.model.state_dict().items():
            torch.testing.assert_close(together_.average.model.state_dict()[name], tensor, rtol=1e-4, atol=2e-5)
        for ours, theirs in zip(together_.history, alone.history, strict=True):
            for key, value in theirs.items():
                assert value is None or abs(ours[key] - value) <= 1e-4 * abs(value), (key, ours[key], value)
        # Among themselves they do not differ by a bit.
        for tensor in together_.model.state_dict().values():
            assert torch.equal(processes.sum(tensor.double()), 2 * tensor.double())


def check_without_the_global_count_it_would_not_be_so(processes: TorchProcesses) -> None:
    """The test above can fail: a loss that each divides by its own count ends elsewhere."""
    whole = images(8)
    model = made(Yolo)
    loss = model.loss

    def of_its_own(outputs: Any, targets: Any) -> Losses:
        with learning_together(None):
            parts = loss(outputs, targets).parts
        return Losses({name: part / 2 for name, part in parts.items()})

    model.loss = of_its_own  # type: ignore[method-assign]
    wrong = trained(model, half(whole, processes.rank), processes)
    alone = trained(made(Yolo), whole, None)
    pairs = zip(wrong.model.parameters(), alone.model.parameters(), strict=True)
    assert max(float((ours - theirs).detach().abs().max()) for ours, theirs in pairs) > 2e-4


def check_frozen_bytes_stay(processes: TorchProcesses) -> None:
    model = made(Yolo)
    for module in model.backbone.stem.modules():
        module.register_forward_pre_hook(lambda module, _: module.eval() and None)
    for parameter in model.backbone.stem.parameters():
        parameter.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.backbone.stem.state_dict().items()}
    trained(model, half(images(8), processes.rank), processes)
    for name, tensor in model.backbone.stem.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def check_a_loss_that_breaks_in_one_is_skipped_by_both(processes: TorchProcesses) -> None:
    model = made(Yolo)
    loss = model.loss

    def broken(outputs: Any, targets: Any) -> Losses:
        parts = dict(loss(outputs, targets).parts)
        if processes.rank == 1:
            parts["box"] = parts["box"] * float("nan")
        return Losses(parts)

    model.loss = broken  # type: ignore[method-assign]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(DivergedError, match="steps skipped in a row: 2"):
        trained(model, half(images(8), processes.rank), processes, settings={"max_skipped": 2})
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def check_both_end_after_the_step_in_which_one_was_asked_to(processes: TorchProcesses) -> None:
    stop, saved = StopRequest(), []

    def listen(event: Any) -> None:
        if processes.rank == 1 and isinstance(event, StepDone) and (event.epoch, event.batch) == (1, 1):
            stop.ask()

    with pytest.raises(InterruptedRunError):
        trained(
            made(Yolo), half(images(8), processes.rank), processes,
            listen=listen, stop=stop, save_state=lambda state: saved.append(state.step),
        )  # fmt: skip
    # Asked once the flag of step 1 was sent: noticed with that of step 2.
    assert saved == [0, 2]


CHECKS = [value for name, value in sorted(globals().items()) if name.startswith("check_")]

if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined_processes() as group:
        assert group is not None
        for check in CHECKS:
            if not any(word in check.__name__ for word in sys.argv[1:] or [""]):
                continue
            check(group)
            if group.first:
                print(f"ok {check.__name__}", flush=True)

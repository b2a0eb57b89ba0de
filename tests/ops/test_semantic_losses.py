"""Losses of semantic maps against numbers by hand and slow references."""

import math

import pytest
import torch
from torch import Tensor

from visionkit.errors import ConfigError
from visionkit.ops.semantic_losses import SEMANTIC_LOSSES, jaccard_steps, loss_sum, lovasz_softmax, mean_dice

K = 4


def case(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, K, 5, 6, generator=generator, dtype=torch.float64)
    labels = torch.randint(K - 1, (2, 5, 6), generator=generator)  # the last class does not occur
    labels[0, :2] = 255
    return logits, labels


def judged(logits: Tensor, labels: Tensor) -> list[tuple[list[float], int]]:
    """(probabilities, label) of each judged pixel."""
    probabilities = logits.softmax(1).movedim(1, -1)
    return [(probabilities[b, y, x].tolist(), int(label)) for (b, y, x), label in
            ((place, labels[tuple(place)]) for place in (labels != 255).nonzero().tolist())]  # fmt: skip


def reference(name: str, logits: Tensor, labels: Tensor, weights: list[float]) -> float:
    pixels = judged(logits, labels)
    if name in ("cross-entropy", "focal"):
        gamma = 2 if name == "focal" else 0
        losses = [(weights[y], -((1 - p[y]) ** gamma) * math.log(p[y])) for p, y in pixels]
    else:
        losses = [(weights[c], reference_of_class(name, pixels, c)) for c in {y for _, y in pixels}]
    return sum(w * loss for w, loss in losses) / sum(w for w, _ in losses)


def reference_of_class(name: str, pixels: list[tuple[list[float], int]], c: int) -> float:
    if name == "dice":
        both = sum(p[c] for p, y in pixels if y == c)
        return 1 - (2 * both + 1) / (sum(p[c] ** 2 for p, _ in pixels) + sum(y == c for _, y in pixels) + 1)
    # Lovász: in the order of errors, each weighted by what 1 - IoU rises when the pixel is given up too.
    errors = sorted(((abs((y == c) - p[c]), y == c) for p, y in pixels), reverse=True)
    total, before, value = sum(of_class for _, of_class in errors), 0.0, 0.0
    for i, (error, _) in enumerate(errors):
        wrong = [of_class for _, of_class in errors[: i + 1]]
        after = 1 - (total - sum(wrong)) / (total + wrong.count(False))
        value += error * (after - before)
        before = after
    return value


@pytest.mark.parametrize("name", SEMANTIC_LOSSES)
@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5, 3.0]])
def test_every_loss_is_its_slow_reference(name: str, weights: list[float] | None) -> None:
    logits, labels = case()
    said = SEMANTIC_LOSSES[name](logits, labels, None if weights is None else torch.tensor(weights))
    assert said.item() == pytest.approx(reference(name, logits, labels, weights or [1.0] * K), rel=1e-9)


@pytest.mark.parametrize("name", SEMANTIC_LOSSES)
def test_gradients_are_right_and_nothing_flows_from_ignored_pixels(name: str) -> None:
    logits, labels = case(1)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: SEMANTIC_LOSSES[name](x, labels, None), logits)
    (gradient,) = torch.autograd.grad(SEMANTIC_LOSSES[name](logits, labels, None), logits)
    assert gradient[0, :, :2].abs().max() == 0
    assert gradient[1].abs().max() > 0


@pytest.mark.parametrize("name", SEMANTIC_LOSSES)
def test_with_nothing_to_judge_the_loss_is_zero_and_has_a_gradient(name: str) -> None:
    logits = torch.randn(1, K, 3, 3, requires_grad=True)
    loss = SEMANTIC_LOSSES[name](logits, torch.full((1, 3, 3), 255), torch.ones(K))
    assert loss.item() == 0
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0


@pytest.mark.parametrize("name", SEMANTIC_LOSSES)
def test_what_is_surely_right_costs_nothing(name: str) -> None:
    _, labels = case()
    logits = 200.0 * torch.nn.functional.one_hot(labels.where(labels != 255, 0), K).movedim(-1, 1).float()
    assert SEMANTIC_LOSSES[name](logits, labels, None).item() == pytest.approx(0, abs=1e-6)


def test_half_precision_is_judged_in_single() -> None:
    logits, labels = case()
    for loss in SEMANTIC_LOSSES.values():
        said = loss(logits.bfloat16(), labels, None)
        assert said.dtype == torch.float32
        assert said.item() == pytest.approx(loss(logits.bfloat16().double(), labels, None).item(), rel=1e-5)


def test_lovasz_of_hard_decisions_is_one_minus_iou() -> None:
    # 6 pixels: class 1 is predicted at 3, true at 3, both at 2: IoU 2/4; class 0: 2/4 as well.
    labels = torch.tensor([[[1, 1, 1, 0, 0, 0]]])
    said = torch.tensor([[[1, 1, 0, 1, 0, 0]]])
    logits = 300.0 * torch.nn.functional.one_hot(said, 2).movedim(-1, 1).double()
    assert lovasz_softmax(logits, labels).item() == pytest.approx(0.5)


def test_lovasz_ranks_no_more_pixels_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    # 100 judged pixels behind 20 that are not, and 40 to be taken: every 2.5th, so the places 0, 2, 5, 7, 10, ...
    logits, labels = torch.randn(1, K, 4, 30, dtype=torch.float64), torch.randint(K, (1, 4, 30))
    labels[0, 0, :20] = 255
    whole = lovasz_softmax(logits, labels).item()
    taken = [20 + 5 * i + j for i in range(20) for j in (0, 2)]
    wanted = lovasz_softmax(logits.flatten(2)[:, :, taken][:, :, None], labels.flatten(1)[:, taken][:, None]).item()
    monkeypatch.setattr("visionkit.ops.semantic_losses.MOST_RANKED", 40)
    assert lovasz_softmax(logits, labels).item() == pytest.approx(wanted, rel=1e-12)
    assert wanted != pytest.approx(whole, rel=1e-6)
    monkeypatch.setattr("visionkit.ops.semantic_losses.MOST_RANKED", 100)
    assert lovasz_softmax(logits, labels).item() == whole


def test_jaccard_steps_by_hand() -> None:
    # Two of the class among three. Give up one of them: IoU 1/2; then one that is not: 1/3; then the other: 0.
    steps = jaccard_steps(torch.tensor([[1.0, 0.0, 1.0]]))
    torch.testing.assert_close(steps, torch.tensor([[1 / 2, 1 / 6, 1 / 3]]))


def test_dice_by_hand() -> None:
    # One class, two pixels, all of it right: 1 - (2 * 2 + 1) / (2 + 2 + 1).
    assert mean_dice(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 2, dtype=torch.long)).item() == 0


@pytest.mark.parametrize(
    ("said", "terms"),
    [("dice", {"dice": 1}), ("cross-entropy+dice", {"cross-entropy": 1, "dice": 1}), (" .5 * focal ", {"focal": 0.5})],
)
def test_sums_are_read(said: str, terms: dict[str, float]) -> None:
    assert loss_sum(said) == terms


@pytest.mark.parametrize("said", ["", "iou", "dice+", "dice+dice", "0*dice", "-1*dice", "dice*2", "2 dice"])
def test_what_is_no_sum_is_refused(said: str) -> None:
    with pytest.raises(ConfigError, match=r"semantic_loss must be a sum of cross-entropy, focal, dice, lovasz, each"):
        loss_sum(said)

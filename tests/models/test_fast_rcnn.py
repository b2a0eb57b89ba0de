"""Fast R-CNN: fed by proposals; the three verbs and the awkward batches."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from visionkit.backbones.csp_light import CspLight
from visionkit.errors import UsageError
from visionkit.models import searched_regions
from visionkit.models.fast_rcnn import FastRcnn
from visionkit.types import Target


def target(boxes: Sequence[Sequence[float]] = (), labels: Sequence[int] = ()) -> Target:
    return Target(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
        torch.zeros(len(labels), dtype=torch.bool),
    )


def images(batch: int = 2) -> Tensor:
    return torch.randint(256, (batch, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


PROPOSALS = [torch.tensor([[0.0, 0, 30, 30], [20, 20, 60, 60], [2, 2, 40, 40]]), torch.tensor([[10.0, 10, 20, 20]])]


@pytest.fixture(scope="module")
def model() -> FastRcnn:
    torch.manual_seed(0)
    return FastRcnn(CspLight(), 3).eval()


def test_every_proposal_is_a_region(model: FastRcnn) -> None:
    with torch.no_grad():
        outputs = model(images(), proposals=PROPOSALS)
    assert torch.equal(outputs.regions.boxes, torch.cat(PROPOSALS))
    assert outputs.regions.image.tolist() == [0, 0, 0, 1]
    assert outputs.regions.class_logits.shape == (4, 4)


def test_the_best_proposals_are_regions_and_all_are_learnt_from(model: FastRcnn) -> None:
    # As a mosaic has them: 2,000 of a tile without objects, then those of the tile with the object.
    object_box = torch.tensor([[34.0, 34, 62, 62]])
    empty_tile, later_tile = torch.tensor([[1.0, 1, 20, 20]]).repeat(2000, 1), object_box - 1
    proposals, truth = [torch.cat((empty_tile, later_tile))], [target(object_box.tolist(), [0])]
    with torch.no_grad():
        judged = model(images(1), proposals=proposals).regions.boxes
        learnt = model(images(1), targets=truth, proposals=proposals).regions.boxes
    assert torch.equal(judged, empty_tile)
    # Positive regions come first: the later tile's and the truth itself, in random order.
    assert sorted(learnt[:2].tolist()) == torch.cat((later_tile, object_box)).tolist()
    assert (learnt[2:] == empty_tile[0]).all()


def test_a_batch_is_its_images_one_by_one(model: FastRcnn) -> None:
    with torch.no_grad():
        together = model.predict(model(images(), proposals=PROPOSALS), score=0.0)
        for b, one in enumerate(together):
            (alone,) = model.predict(model(images()[b : b + 1], proposals=PROPOSALS[b : b + 1]), score=0.0)
            torch.testing.assert_close(one.boxes, alone.boxes, rtol=0, atol=1e-2)
            torch.testing.assert_close(one.scores, alone.scores, rtol=0, atol=1e-4)


def test_where_no_proposals_are_given_they_are_searched_but_for_learning(
    model: FastRcnn, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = [torch.zeros(0, 4), torch.zeros(0, 4)]
    with torch.no_grad():
        found = model.predict(model(images(), proposals=nothing), score=0.0)
    assert [len(one.scores) for one in found] == [0, 0]
    seen = []

    def search(pixels: np.ndarray, most: int) -> np.ndarray:
        seen.append(pixels)
        return np.array([[1, 2, 30, 40], [5, 5, 20, 20]], np.float32)

    monkeypatch.setattr(searched_regions, "selective_search", search)
    with torch.no_grad():
        outputs = model(images())
    assert outputs.regions.boxes.tolist() == [[1, 2, 30, 40], [5, 5, 20, 20]] * 2
    assert outputs.regions.image.tolist() == [0, 0, 1, 1]
    # Each image as it came, H x W x 3.
    assert all((pixels == image.permute(1, 2, 0).numpy()).all() for pixels, image in zip(seen, images(), strict=True))
    with pytest.raises(UsageError, match=r"model fast-rcnn learns from proposals of each image and has none; finetune"):
        model(images(), targets=[target(), target()])


def test_units_and_class_rows_cover_the_model(model: FastRcnn) -> None:
    in_units = [p for u in model.units for name in u.modules for p in model.get_submodule(name).parameters()]
    assert set(in_units) == set(model.parameters())
    state = model.state_dict()
    for name, rows in model.class_rows.items():
        assert state[name].shape[rows.dim] == rows.length(3)


AWKWARD = {
    "no truth at all": [target(), target()],
    "one image without": [target([[4, 4, 40, 40]], [2]), target()],
    "a pixel": [target([[10, 10, 11, 11]], [0]), target([[63, 63, 64, 64]], [1])],
    "500 objects": [
        target([[x, y, x + 2.5, y + 2.5] for x in range(0, 50, 2) for y in range(0, 40, 2)], [1] * 500),
        target(),
    ],
}


@pytest.mark.parametrize("truth", AWKWARD.values(), ids=AWKWARD)
@pytest.mark.parametrize("proposals", [PROPOSALS, [torch.zeros(0, 4)] * 2], ids=["proposals", "none"])
def test_awkward_truths_give_finite_losses_and_gradients(truth: list[Target], proposals: list[Tensor]) -> None:
    torch.manual_seed(0)
    model = FastRcnn(CspLight(), 3).train()
    for sizes in (None, [(64, 64), (40, 52)]):
        losses = model.loss(model(images(), sizes, truth, proposals), truth)
        assert set(losses.parts) == {"class", "box"}
        assert all(part.isfinite() for part in losses.parts.values())
        losses.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())

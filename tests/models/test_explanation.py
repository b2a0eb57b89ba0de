"""Why detectors decide as they do: by hand, and for every model bit by bit what `predict` says."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.outspoken import outspoken
from visionkit import build
from visionkit.backbones.csp_light import CspLight
from visionkit.models.explanation import (
    BELOW_CONF,
    BEYOND_CANDIDATES,
    BEYOND_MAX_DET,
    FATES,
    KEPT,
    SUPPRESSED,
    TOO_SMALL,
    Candidates,
    anchor_facts,
    assigned_by,
    explain,
)
from visionkit.models.fast_rcnn import FastRcnn
from visionkit.models.faster_rcnn import FasterRcnn
from visionkit.models.mask_rcnn import MaskRcnn
from visionkit.models.rcnn import Rcnn
from visionkit.models.retinanet import RetinaNet
from visionkit.models.roi_head import DELTA_WEIGHTS
from visionkit.models.yolo import Yolo
from visionkit.models.yolo_masks import YoloMasks
from visionkit.models.yolov1 import YoloV1
from visionkit.ops.box_coding import decode_deltas
from visionkit.ops.boxes import box_iou, clip_boxes
from visionkit.ops.iou_matching import match_by_iou
from visionkit.ops.nms import best_pairs
from visionkit.types import Target

# By hand --------------------------------------------------------------------------------------------------------------

# Box 1 overlaps box 0 by 90 / 100, box 2 is apart, box 3 overlaps box 2 by 80 / 100.
BOXES = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 9], [20.0, 20, 30, 30], [20.0, 20, 30, 28]])
SCORES = torch.tensor([[0.9, 0.2], [0.8, 0.6], [0.7, 0.1], [0.4, 0.65]])


def candidates(score: float = 0.5, most: int = 99, **others: Any) -> Candidates:
    return Candidates(BOXES, SCORES, *best_pairs(SCORES, score=score, candidates=most)[:2], **others)


def fates_of(given: Candidates, **options: Any) -> list[tuple[int, int, str]]:
    """Box, class and fate of each candidate told of."""
    told = explain(given, **{"score": 0.5, "iou": 0.5, "max_det": 9, **options})
    return list(zip(told.box.tolist(), told.label.tolist(), (FATES[code] for code in told.fate.tolist()), strict=True))


def test_fates_by_hand() -> None:
    told = explain(candidates(), score=0.5, iou=0.5, max_det=9)
    assert fates_of(candidates()) == [
        *((0, 0, "kept"), (2, 0, "kept"), (3, 1, "kept"), (1, 1, "kept")),
        (1, 0, "suppressed"),
        *((3, 0, "below_conf"), (0, 1, "below_conf"), (2, 1, "below_conf")),
    ]
    assert told.remover.tolist() == [-1, -1, -1, -1, 0, -1, -1, -1]
    assert told.overlap.tolist() == pytest.approx([0, 0, 0, 0, 0.9, 0, 0, 0])
    assert told.scores.tolist() == pytest.approx([0.9, 0.7, 0.65, 0.6, 0.8, 0.4, 0.2, 0.1])
    assert torch.equal(told.boxes, BOXES[told.box])
    assert told.counts() == [4, 0, 1, 0, 0, 3]


def test_beyond_max_det_and_beyond_the_candidates() -> None:
    assert fates_of(candidates(), max_det=2)[:5] == [
        *((0, 0, "kept"), (2, 0, "kept")),
        *((3, 1, "beyond_max_det"), (1, 1, "beyond_max_det")),
        (1, 0, "suppressed"),
    ]
    # The two best pairs are box 0 and box 1 of class 0. The three that also scored enough never met them.
    assert fates_of(candidates(most=2))[:5] == [
        *((0, 0, "kept"), (1, 0, "suppressed")),
        *((2, 0, "beyond_candidates"), (3, 1, "beyond_candidates"), (1, 1, "beyond_candidates")),
    ]


def test_one_beyond_max_det_removes_others_all_the_same() -> None:
    # Box 3 of class 0 goes by box 2, which is not shown itself.
    told = explain(candidates(score=0.3), score=0.3, iou=0.5, max_det=1)
    place = told.place(3, 0)
    assert place is not None
    assert FATES[int(told.fate[place])] == "suppressed"
    by = int(told.remover[place])
    assert (int(told.box[by]), FATES[int(told.fate[by])]) == (2, "beyond_max_det")


def test_too_small_goes_before_suppression_and_below_conf_before_too_small() -> None:
    small = torch.zeros(4, 2, dtype=torch.bool)
    small[0], small[3] = True, True
    fit = torch.where(small, -1, SCORES)
    given = Candidates(BOXES, SCORES, *best_pairs(fit, score=0.5, candidates=9)[:2], too_small=small)
    told = fates_of(given)
    assert told[:3] == [(1, 0, "kept"), (2, 0, "kept"), (1, 1, "kept")]
    assert told[3:] == [
        *((0, 0, "too_small"), (3, 1, "too_small")),
        *((3, 0, "below_conf"), (0, 1, "below_conf"), (2, 1, "below_conf")),
    ]


def test_few_of_those_that_never_entered_are_told_and_all_are_counted() -> None:
    told = explain(candidates(), score=0.5, iou=0.5, max_det=9, listed=1)
    assert told.fate.tolist() == [KEPT] * 4 + [SUPPRESSED, BELOW_CONF]
    assert told.scores[-1].item() == pytest.approx(0.4)
    assert told.counts()[BELOW_CONF] == 3


def test_facts_go_with_their_candidates() -> None:
    given = candidates(
        of_boxes={"cell": torch.tensor([[0, 1], [2, 3], [4, 5], [6, 7]])}, of_pairs={"logit": SCORES * 10}
    )
    told = explain(given, score=0.5, iou=0.5, max_det=9)
    assert told.facts["cell"].tolist() == [[0, 1], [4, 5], [6, 7], [2, 3], [2, 3], [6, 7], [0, 1], [4, 5]]
    assert torch.equal(told.facts["logit"], told.scores * 10)


def test_groups_other_than_classes_suppress_apart() -> None:
    # Boxes 0 and 1, of one class, on two levels.
    scores, box = torch.tensor([[0.9], [0.8]]), torch.tensor([0, 1])
    alone = Candidates(BOXES[:2], scores, box, box * 0, group=torch.tensor([0, 1]))
    together = Candidates(BOXES[:2], scores, box, box * 0)
    assert explain(alone, score=0, iou=0.5, max_det=9).fate.tolist() == [KEPT, KEPT]
    assert explain(together, score=0, iou=0.5, max_det=9).fate.tolist() == [KEPT, SUPPRESSED]


@pytest.mark.parametrize("shape", [(0, 3), (4, 1)])
def test_nothing_to_decide(shape: tuple[int, int]) -> None:
    none = torch.zeros(0, dtype=torch.int64)
    told = explain(Candidates(torch.zeros(shape[0], 4), torch.zeros(shape), none, none), score=0.5, iou=0.5, max_det=9)
    assert told.fate.tolist() == [BELOW_CONF] * shape[0] * shape[1]
    assert told.counts() == [0, 0, 0, 0, 0, shape[0] * shape[1]]


def test_scores_that_are_no_numbers_come_last() -> None:
    scores = torch.tensor([[float("nan")], [0.1], [0.3]])
    given = Candidates(BOXES[:3], scores, *best_pairs(scores, score=0.5, candidates=9)[:2])
    told = explain(given, score=0.5, iou=0.5, max_det=9)
    assert told.box.tolist() == [2, 1, 0]


def test_where_anchors_stand() -> None:
    # A map of 2 rows and 3 columns at stride 8 with a square and a wide anchor a cell, then one cell at stride 32.
    cells = [(8 * x, 8 * y) for y in range(2) for x in range(3)]
    shapes = [(4, 4), (8, 2)]
    fine = [[x - w, y - h, x + w, y + h] for x, y in cells for w, h in shapes]
    coarse = [[-16, -16, 16, 16]]
    facts = anchor_facts(torch.tensor([*fine, *coarse], dtype=torch.float32), (12, 1), (8, 32))
    assert facts["stride"].tolist() == [8] * 12 + [32]
    assert facts["cell"].tolist() == [[x // 8, y // 8] for x, y in cells for _ in shapes] + [[0, 0]]
    assert facts["anchor_size"].tolist() == [8, 8] * 6 + [32]  # sqrt(8 * 8), sqrt(16 * 4)
    assert facts["anchor_ratio"].tolist() == [1, 0.25] * 6 + [1]


def test_what_learns_is_counted_by_stride() -> None:
    # Places 0 and 1 at stride 8, 2 and 3 at 16; object 0 has places 1 and 3, object 1 has place 2.
    assigned = assigned_by(
        torch.tensor([0, 0, 1, 0]),
        torch.tensor([0, 1, 1, 1]),
        stride=torch.tensor([8.0, 8, 16, 16]),
        strides=(8, 16),
        boxes=BOXES,
        gt_boxes=torch.tensor([[0.0, 0, 10, 9], [50.0, 50, 60, 60]]),
        what="anchors",
        facts={"number": torch.arange(4), "box": BOXES},
        overlapping="anchors",
    )
    assert assigned.positives.tolist() == [[1, 1], [0, 1]]
    assert assigned.best_iou.tolist() == [1, 0]
    # Place 1 is object 0 exactly; places 2 and 3 meet theirs nowhere, and stand in their own order.
    assert assigned.object.tolist() == [0, 1, 0]
    assert assigned.iou.tolist() == [1, 0, 0]
    assert assigned.facts["number"].tolist() == [1, 2, 3]
    assert torch.equal(assigned.facts["box"], BOXES[1:])


def test_of_a_place_with_several_boxes_the_one_that_overlaps_most_counts() -> None:
    # Two boxes of each of two places: the second place learns the object, and its second box is it by 0.8.
    truth = torch.tensor([[20.0, 20, 30, 30]])
    assigned = assigned_by(
        torch.tensor([0, 0]),
        torch.tensor([0, 1]),
        stride=torch.tensor([8, 8]),
        strides=(8,),
        boxes=torch.cat((BOXES[:2], BOXES[:1], BOXES[3:])),
        gt_boxes=truth,
        facts={},
        what="cells",
        overlapping="predicted boxes",
    )
    assert assigned.iou.tolist() == pytest.approx([0.8])
    nowhere = assigned_by(
        torch.zeros(0, dtype=torch.int64),
        torch.zeros(0, dtype=torch.int64),
        stride=torch.zeros(0),
        strides=(8,),
        boxes=torch.zeros(0, 4),
        gt_boxes=truth,
        facts={"box": torch.zeros(0, 4)},
        what="proposals",
        overlapping="proposals",
    )
    assert (nowhere.positives.tolist(), nowhere.best_iou.tolist(), len(nowhere.object)) == ([[0]], [0], 0)


# Every model ----------------------------------------------------------------------------------------------------------

SIDE = 128
REGIONS = torch.tensor(
    [[10.0, 10, 60, 60], [12.0, 8, 64, 62], [50.0, 40, 120, 110], [0.0, 0, 128, 128], [5.0, 5, 5, 5]]
)


def with_opinions(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return outspoken(make())


MODELS: dict[str, Callable[[], nn.Module]] = {
    "yolo": lambda: Yolo(CspLight(), 3),
    "yolo-masks": lambda: YoloMasks(CspLight(), 3),
    "yolov1": lambda: YoloV1(CspLight(), 3),
    "retinanet": lambda: RetinaNet(CspLight(), 3),
    "faster-rcnn": lambda: FasterRcnn(CspLight(), 3),
    "mask-rcnn": lambda: MaskRcnn(CspLight(), 3),
    "fast-rcnn": lambda: FastRcnn(CspLight(), 3),
    "rcnn": lambda: Rcnn(CspLight(), 3, warp=32),
}


def test_these_are_all_detectors_that_there_are() -> None:
    assert set(MODELS) == {name for name, kind in build.MODELS.items() if kind.task == "detect"}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> nn.Module:
    return with_opinions(MODELS[request.param])


def outputs_of(model: nn.Module, *, half: bool = False) -> Any:
    """Of two images, the second with padding."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (2, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        return model(images, [(SIDE, SIDE), (96, 112)], None, [REGIONS, REGIONS[:3]])


THRESHOLDS = [
    {"score": 0.05, "iou": 0.5, "max_det": 300, "candidates": 3000},
    {"score": 0.3, "iou": 0.3, "max_det": 3, "candidates": 3000},
    {"score": 0.01, "iou": 0.7, "max_det": 20, "candidates": 7},
]


@pytest.mark.parametrize("half", [False, True], ids=["f32", "bf16"])
@pytest.mark.parametrize("thresholds", THRESHOLDS, ids=["usual", "few", "few candidates"])
def test_what_is_kept_is_to_the_bit_what_predict_says(model: nn.Module, thresholds: dict[str, Any], half: bool) -> None:
    outputs = outputs_of(model, half=half)
    predicted = model.predict(outputs, masks=False, **thresholds)  # type: ignore[operator]
    limits = {name: thresholds[name] for name in ("score", "iou", "max_det")}
    given = model.candidates(outputs, score=thresholds["score"], most=thresholds["candidates"])  # type: ignore[operator]
    suppressed = 0
    for found, one in zip(predicted, given, strict=True):
        told = explain(one, **limits)
        kept = told.fate == KEPT
        assert torch.equal(told.boxes[kept], found.boxes)
        assert torch.equal(told.scores[kept], found.scores)
        assert torch.equal(told.label[kept], found.labels)
        assert len(found.scores)
        gone = (told.fate == SUPPRESSED).nonzero().squeeze(1)
        by = told.remover[gone]
        assert torch.isin(told.fate[by], torch.tensor([KEPT, BEYOND_MAX_DET])).all()
        assert torch.equal(told.label[by], told.label[gone])
        assert torch.allclose(box_iou(told.boxes[by], told.boxes[gone]), told.overlap[gone])
        assert (told.overlap[gone] > thresholds["iou"]).all()
        assert sum(told.counts()) == one.scores.numel()
        assert (told.scores[told.fate == BELOW_CONF] < thresholds["score"]).all()
        suppressed += len(gone)
    if thresholds is THRESHOLDS[0]:
        assert suppressed  # or the scene says nothing


def test_candidates_that_do_not_enter_are_not_too_small(model: nn.Module) -> None:
    """With a limit on the candidates, those of the highest scores beyond it scored enough."""
    outputs = outputs_of(model)
    for one in model.candidates(outputs, score=0.01, most=2):  # type: ignore[operator]
        told = explain(one, score=0.01, iou=0.5, max_det=300)
        beyond = told.fate == BEYOND_CANDIDATES
        assert beyond.any()
        assert (told.scores[beyond] >= 0.01).all()


def test_its_thresholds_have_the_names_that_explanations_ask_for(model: nn.Module) -> None:
    parameters = inspect.signature(model.predict).parameters  # type: ignore[arg-type]
    assert {"score", "iou", "max_det", "candidates"} <= set(parameters)


def target(boxes: list[list[float]], labels: list[int], ignore: list[bool] | None = None) -> Target:
    return Target(
        torch.tensor(boxes).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(ignore or [False] * len(labels), dtype=torch.bool),
    )


TRUTH = [
    target([[10.0, 12, 58, 60], [60.0, 50, 118, 108], [0.0, 0, 30, 30]], [0, 2, 1], [False, False, True]),
    target([], []),
]


def test_what_learns_each_object(model: nn.Module) -> None:
    stages, of_empty = model.assigned(outputs_of(model), TRUTH)  # type: ignore[operator]
    assert stages
    for stage in stages:
        assert stage.positives.shape == (3, len(stage.strides))
        assert stage.positives[2].sum() == 0  # ignored
        assert ((stage.best_iou >= 0) & (stage.best_iou <= 1)).all()
        # Each place that learns is named, with what it overlaps its object by.
        assert stage.object.bincount(minlength=3).tolist() == stage.positives.sum(1).tolist()
        assert (stage.iou[1:] <= stage.iou[:-1]).all()
        assert (stage.iou <= stage.best_iou[stage.object] + 1e-6).all()
        assert {"stride", "cell"} <= set(stage.facts) or {"proposal", "proposal_number"} <= set(stage.facts)
        assert all(len(values) == len(stage.object) for values in stage.facts.values())
    assert stages[0].positives.sum() > 0
    assert all(stage.positives.shape[0] == stage.best_iou.shape[0] == 0 for stage in of_empty)


# Where candidates come from -------------------------------------------------------------------------------------------


def test_a_point_lies_in_its_cell() -> None:
    model = with_opinions(MODELS["yolo"])
    outputs = outputs_of(model)
    facts = model.candidates(outputs, score=0.1, most=99)[0].of_boxes  # type: ignore[operator]
    expected = (facts["cell"] + 0.5) * facts["stride"][:, None]
    assert torch.equal(expected, outputs.points)
    logit = model.candidates(outputs, score=0.1, most=99)[0].of_pairs["logit"]  # type: ignore[operator]
    assert torch.equal(logit, outputs.class_logits[0])


def test_points_that_learn_are_those_of_the_loss() -> None:
    """The number of positive points of a batch, and of its images one by one."""
    from visionkit.models.yolo import _match_batch

    model = with_opinions(MODELS["yolo"])
    outputs = outputs_of(model)
    truth = [TRUTH[0], target([[20.0, 20, 70, 80]], [1])]
    count = sum(int(stage.positives.sum()) for (stage,) in model.assigned(outputs, truth))  # type: ignore[operator]
    assert count == len(_match_batch(outputs, truth).quality)


def test_a_score_of_yolov1_is_confidence_times_probability() -> None:
    model = with_opinions(MODELS["yolov1"])
    (one, _) = model.candidates(outputs_of(model), score=0.1, most=99)  # type: ignore[operator]
    assert torch.equal(one.of_boxes["confidence"][:, None] * one.of_pairs["class_probability"], one.scores)
    assert one.of_boxes["box_of_cell"][:4].tolist() == [0, 1, 0, 1]
    assert one.of_boxes["cell"][:10:2].tolist() == [[0, 0], [1, 0], [2, 0], [3, 0], [0, 1]]


def test_of_two_objects_in_a_cell_of_yolov1_the_larger_is_learnt() -> None:
    model = with_opinions(MODELS["yolov1"])
    # Both centres, (48, 48) and (50, 50), lie in the second cell of the second row.
    truth = [target([[40.0, 40, 56, 56], [10.0, 10, 90, 90]], [0, 1]), target([], [])]
    ((cells,), _) = model.assigned(outputs_of(model), truth)  # type: ignore[operator]
    assert cells.positives.tolist() == [[0], [1]]


def test_an_anchor_is_that_of_its_box() -> None:
    model = with_opinions(MODELS["retinanet"])
    outputs = outputs_of(model)
    (one, _) = model.candidates(outputs, score=0.1, most=99)  # type: ignore[operator]
    facts = one.of_boxes
    assert torch.equal(facts["anchor"], outputs.anchors)
    centres = (facts["anchor"][:, :2] + facts["anchor"][:, 2:]) / 2
    assert torch.equal(facts["cell"] * facts["stride"][:, None].float(), centres)
    gt_index, label = match_by_iou(
        outputs.anchors, TRUTH[0].boxes, TRUTH[0].ignore, positive=0.5, background=0.4, low_quality=True
    )
    ((anchors,), _) = model.assigned(outputs, TRUTH)  # type: ignore[operator]
    assert anchors.positives.sum() == (label == 1).sum()
    assert anchors.positives[1].sum() == ((label == 1) & (gt_index == 1)).sum()
    # Those very anchors.
    mine = {tuple(box) for box in anchors.facts["anchor"][anchors.object == 1].tolist()}
    assert mine == {tuple(box) for box in outputs.anchors[(label == 1) & (gt_index == 1)].tolist()}
    assert torch.allclose(anchors.iou, box_iou(anchors.facts["anchor"], TRUTH[0].boxes[anchors.object]))


@pytest.mark.parametrize("name", ["faster-rcnn", "mask-rcnn"])
def test_a_region_is_the_proposal_of_its_anchor(name: str) -> None:
    model = with_opinions(MODELS[name])
    outputs = outputs_of(model)
    assert isinstance(model, FasterRcnn | MaskRcnn)
    proposals = model.rpn.propose(outputs.proposals, outputs.sizes, learning=False)
    given = model.candidates(outputs, score=0.05, most=300)
    for b, (one, proposed) in enumerate(zip(given, proposals, strict=True)):
        facts = one.of_boxes
        assert torch.equal(facts["proposal"], proposed)
        assert facts["proposal_number"].tolist() == list(range(1, len(proposed) + 1))
        assert facts["objectness"].tolist() == sorted(facts["objectness"].tolist(), reverse=True)
        assert torch.allclose(facts["objectness_logit"].sigmoid(), facts["objectness"])
        # The anchor, moved as the network says, is the proposal.
        anchors = outputs.proposals.anchors
        index = [(anchors == anchor).all(1).nonzero()[0, 0].item() for anchor in facts["anchor"]]
        moved = clip_boxes(decode_deltas(outputs.proposals.deltas[b, index], anchors[index]), outputs.sizes[b])
        assert torch.allclose(moved, proposed)
        # And the proposal, moved as the head says, is the candidate.
        of_image = outputs.regions.image == b
        boxes = decode_deltas(outputs.regions.deltas[of_image], proposed[:, None], DELTA_WEIGHTS)
        assert torch.allclose(clip_boxes(boxes, outputs.sizes[b]), one.boxes)


def test_what_became_of_all_anchors_is_what_was_proposed() -> None:
    model = with_opinions(MODELS["faster-rcnn"])
    outputs = outputs_of(model)
    assert isinstance(model, FasterRcnn)
    for (given, told), proposed in zip(
        model.rpn.explained(outputs.proposals, outputs.sizes),
        model.rpn.propose(outputs.proposals, outputs.sizes, learning=False),
        strict=True,
    ):
        assert torch.equal(told.boxes[told.fate == KEPT], proposed)
        assert told.counts()[SUPPRESSED] > 0
        assert sum(told.counts()) == len(given.boxes) == len(outputs.proposals.anchors)


def test_a_region_of_nothing_is_too_small() -> None:
    model = with_opinions(MODELS["fast-rcnn"])
    (one, _) = model.candidates(outputs_of(model), score=0.0, most=300)  # type: ignore[operator]
    told = explain(one, score=0.0, iou=0.5, max_det=300)
    assert (told.fates[4] == TOO_SMALL).all()  # REGIONS[4] has no side
    assert "objectness" not in one.of_boxes


def test_a_score_of_rcnn_is_the_sigmoid_of_a_margin() -> None:
    model = with_opinions(MODELS["rcnn"])
    assert isinstance(model, Rcnn)
    outputs = outputs_of(model)
    (one, _) = model.candidates(outputs, score=0.0, most=300)
    assert torch.equal(model.head.probabilities(one.of_pairs["margin"]), one.scores)
    assert torch.equal(one.of_boxes["proposal"], REGIONS)
    assert one.of_boxes["read_stride"].tolist() == [1] * 5  # of the image itself
    told = explain(one, score=0.0, iou=0.5, max_det=300)
    assert (told.fates[4] == TOO_SMALL).all()  # REGIONS[4] has no side
    # From which proposals the way is learnt, from an IoU of 0.6 on: 0 and 1 overlap the first object by 2304 / 2500
    # and 2208 / 2904, and proposal 2 the second one by 3364 / 4900.
    ((proposals,), _) = model.assigned(outputs, TRUTH)
    assert proposals.facts["proposal_number"].tolist() == [1, 2, 3]
    assert proposals.object.tolist() == [0, 0, 1]
    assert proposals.iou.tolist() == pytest.approx([2304 / 2500, 2208 / 2904, 3364 / 4900])


def test_a_class_s_box_and_score_are_its_own() -> None:
    own = torch.stack((BOXES, BOXES + 50), 1)
    given = Candidates(own, SCORES, *best_pairs(SCORES, score=0.5, candidates=9)[:2])
    told = explain(given, score=0.5, iou=0.5, max_det=9)
    assert torch.equal(told.boxes, own[told.box, told.label])
    assert torch.equal(given.boxes_of_class(1), BOXES + 50)


def slow_fates(scores: Tensor, entered: set[tuple[int, int]], least: float) -> dict[tuple[int, int], int]:
    """What keeps each pair out, pair by pair."""
    out = {}
    for box in range(scores.shape[0]):
        for label in range(scores.shape[1]):
            if (box, label) not in entered:
                out[box, label] = BEYOND_CANDIDATES if scores[box, label] >= least else BELOW_CONF
    return out


def test_fates_of_all_equal_the_loop() -> None:
    generator = torch.Generator().manual_seed(3)
    scores = torch.rand(40, 5, generator=generator)
    corner = torch.rand(40, 2, generator=generator) * 30
    boxes = torch.cat((corner, corner + 20), 1)
    box, label, _ = best_pairs(scores, score=0.4, candidates=50)
    told = explain(Candidates(boxes, scores, box, label), score=0.4, iou=0.5, max_det=10)
    entered = set(zip(box.tolist(), label.tolist(), strict=True))
    for pair, fate in slow_fates(scores, entered, 0.4).items():
        assert told.fates[pair] == fate
    for pair in entered:
        place = told.place(*pair)
        assert place is not None
        assert told.fates[pair] == told.fate[place] <= SUPPRESSED

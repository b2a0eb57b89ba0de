"""R-CNN, the original: selective search, features of each warped region, a linear SVM and box regressors a class.

Source: Girshick et al. 2014, Rich feature hierarchies for accurate object detection and semantic segmentation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import ClassVar

import torch
from torch import Tensor, nn

from visionkit.models.assembly import levels_of, model_units, unpadded_sizes
from visionkit.models.explanation import Assigned, Candidates, assigned_by
from visionkit.models.linear_svm import fit_sigmoid, margins, mine
from visionkit.models.rcnn_regions import NEAR, TrainingRegions
from visionkit.models.roi_head import LEAST_SIDE
from visionkit.models.searched_regions import searched_regions
from visionkit.models.warped_regions import warp, with_context
from visionkit.nn.normalize import Normalize
from visionkit.ops.box_coding import decode_deltas
from visionkit.ops.boxes import clip_boxes
from visionkit.ops.iou_matching import match_by_iou
from visionkit.ops.nms import best_pairs, multiclass_nms
from visionkit.proposals.selective_search import MOST_PROPOSALS
from visionkit.types import Batch, ClassRows, Detections, Target, Task, Unit

COST = 1e-2
"""What a squared violation of the margin counts against the size of an SVM's weight. Ours: of 1e-4, 1e-3 and 1e-2 on
blood cells the quickest to fit, and no worse than the others."""

RIDGE = 1000.0
"""What the square of a box regressor's weight counts (appendix C)."""

NEGATIVE = 0.3
"""Regions that overlap each object of a class by a lower IoU are negatives of its SVM (section 2.3)."""

OVERLAPPING = 0.5
"""From this IoU on with an object of a class a region counts as one, where margins become probabilities."""

FEATURE_NORM = 20.0
"""Features, less their mean, are scaled until this is their mean length: the scale that `COST` and `RIDGE` are for."""

MOST_FEATURES = 2048
CHUNK = 256
"""Regions that go through the backbone at once."""


@dataclass(frozen=True, slots=True)
class RcnnOutputs:
    """What the network says of R regions of the images of a batch.

    Args:
        boxes: f32 [R, 4], the regions in pixels.
        image: i64 [R], which image each is in.
        margins: f32 [R, K], of each class's SVM.
        deltas: f32 [R, K, 4], from the region to the box of each class.
        sizes: H and W of each image in pixels, without padding.
    """

    boxes: Tensor
    image: Tensor
    margins: Tensor
    deltas: Tensor
    sizes: tuple[tuple[int, int], ...]


class RcnnHead(nn.Module):
    """What is fitted: for each class a linear SVM, a box regressor, and the probability of a margin.

    Args:
        features: D, of a region.
        classes: K.
    """

    feature_mean: Tensor
    feature_scale: Tensor
    svm_weight: Tensor
    svm_bias: Tensor
    box_weight: Tensor
    box_bias: Tensor
    slope: Tensor
    offset: Tensor

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("feature_mean", torch.zeros(features))
        self.register_buffer("feature_scale", torch.ones(()))
        self.register_buffer("svm_weight", torch.zeros(classes, features))
        self.register_buffer("svm_bias", torch.full((classes,), -1.0))
        self.register_buffer("box_weight", torch.zeros(classes, 4, features))
        self.register_buffer("box_bias", torch.zeros(classes, 4))
        self.register_buffer("slope", torch.ones(classes))
        self.register_buffer("offset", torch.zeros(classes))

    @property
    def class_rows(self) -> dict[str, ClassRows]:
        """By name, the tensors with rows for each class."""
        names = ("svm_weight", "svm_bias", "box_weight", "box_bias", "slope", "offset")
        return {name: ClassRows() for name in names}

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features [R, D] -> margins [R, K] and deltas [R, K, 4]."""
        scaled = self.feature_scale * (features - self.feature_mean)
        deltas = (scaled @ self.box_weight.flatten(0, 1).T).unflatten(1, (-1, 4)) + self.box_bias
        return scaled @ self.svm_weight.T + self.svm_bias, deltas

    def probabilities(self, margins: Tensor) -> Tensor:
        """Margins [R, K] -> [R, K] in 0..1."""
        return (self.slope * margins + self.offset).sigmoid()


class Rcnn(nn.Module):
    """A trained backbone, which stays as it is, and what is fitted on its features: SVMs and box regressors.

    The features of a region are its last map, averaged over 2 x 2 quarters, or over all of it where these would be more
    than 2048 numbers.

    Args:
        backbone: publishes `levels` and `units`; its forward returns one map a level. Trained: random features tell
            little.
        classes: K, number of classes, without background.
        warp: side in pixels of the squares that regions are warped to, 227 in the paper.

    `forward` and `predict` are verbs as of every model; in place of `loss` there is `fit`, which sees the images once.
    """

    task: ClassVar[Task] = "detect"
    says_masks: ClassVar[bool] = False
    wants_proposals: ClassVar[bool] = False
    weighs_classes: ClassVar[bool] = False
    snug: ClassVar[bool] = False
    loss_names: ClassVar[tuple[str, ...]] = ()

    stride = 1
    """Image sides must be divisible by this many pixels."""

    def __init__(self, backbone: nn.Module, classes: int, *, warp: int = 96) -> None:
        super().__init__()
        last = levels_of(backbone)[-1]
        self.normalize = Normalize()
        self.backbone = backbone
        self.classes = classes
        self.warp = warp
        self.cells = 2 if 4 * last.channels <= MOST_FEATURES else 1
        self.features = last.channels * self.cells**2
        self.head = RcnnHead(self.features, classes)

    @property
    def units(self) -> tuple[Unit, ...]:
        """The backbone's units; none of them learns here."""
        return model_units(self, ())

    @property
    def class_rows(self) -> dict[str, ClassRows]:
        """By name, the tensors with rows for each class."""
        return {f"head.{name}": rows for name, rows in self.head.class_rows.items()}

    @torch.no_grad()
    def region_features(self, images: Tensor, regions: Sequence[Tensor]) -> list[Tensor]:
        """Of each region [N, 4] of images [B, 3, H, W] in 0..255, as the backbone gives them: f32 [N, D] an image."""
        found = []
        for image, boxes in zip(self.normalize(images), regions, strict=True):
            parts = [image.new_empty(0, self.features, dtype=torch.float32)]
            for some in with_context(boxes).split(CHUNK) if len(boxes) else ():
                pictures = warp(image, some, self.warp).contiguous(memory_format=torch.channels_last)
                last = self.backbone(pictures)[-1]
                parts.append(nn.functional.adaptive_avg_pool2d(last.float(), self.cells).flatten(1))
            found.append(torch.cat(parts))
        return found

    def forward(
        self,
        images: Tensor,
        sizes: Sequence[tuple[int, int]] | None = None,
        targets: Sequence[Target] | None = None,
        proposals: Sequence[Tensor] | None = None,
    ) -> RcnnOutputs:
        """u8 or float images [B, 3, H, W] in 0..255 -> raw outputs.

        Args:
            sizes: H and W of each image without padding, to which detections are cut; the whole where not given.
            targets: ignored.
            proposals: f32 [N, 4] of each image in pixels, best first; by selective search where not given.

        Raises:
            UsageError: proposals are not given and scikit-image is not installed.
        """
        given = searched_regions(images) if proposals is None else proposals
        regions = [boxes[:MOST_PROPOSALS] for boxes in given]
        counts = torch.tensor([len(boxes) for boxes in regions], device=images.device)
        image = torch.arange(len(images), device=images.device).repeat_interleave(counts)
        features = torch.cat(self.region_features(images, regions))
        # Where the backbone may run in half precision: margins are compared to the last digit.
        with torch.autocast(images.device.type, enabled=False):
            margin, deltas = self.head(features)
        return RcnnOutputs(torch.cat(regions), image, margin, deltas, unpadded_sizes(images, sizes))

    @torch.no_grad()
    def predict(
        self,
        outputs: RcnnOutputs,
        *,
        score: float = 0.05,
        iou: float = 0.3,
        max_det: int = 100,
        masks: bool = True,
        candidates: int = 3000,
    ) -> list[Detections]:
        """Decisions, one Detections an image: every (region, class) of at least `score`, suppressed per class.

        A score is how probable it is that a region of such a margin overlaps an object of the class by half, as seen
        among the regions that the model was fitted on: margins alone are no probabilities.

        Args:
            score: lowest score kept.
            iou: overlap above which the worse box of a class goes.
            max_det: most detections an image.
            masks: ignored: there are none.
            candidates: most (region, class) pairs that enter suppression, best first; bounds the time.
        """
        found = []
        for _, boxes, scores, large in self._said(outputs):
            fit = torch.where(large, scores, -1)
            decisions = multiclass_nms(
                boxes, fit, score=max(score, 0.0), iou=iou, max_det=max_det, candidates=candidates
            )
            found.append(Detections(*decisions))
        return found

    def _said(self, outputs: RcnnOutputs) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Of each image which N regions are its own, i64 [N]; their boxes of each class, cut to the image, [N, K, 4];
        their scores f32 [N, K]; whether a box is large enough, bool [N, K]."""
        boxes = decode_deltas(outputs.deltas, outputs.boxes[:, None])
        scores = self.head.probabilities(outputs.margins)
        for b, size in enumerate(outputs.sizes):
            of_image = (outputs.image == b).nonzero().squeeze(1)
            cut = clip_boxes(boxes[of_image], size)
            yield of_image, cut, scores[of_image], ((cut[..., 2:] - cut[..., :2]) >= LEAST_SIDE).all(-1)

    @torch.no_grad()
    def candidates(self, outputs: RcnnOutputs, *, score: float, most: int) -> list[Candidates]:
        """What `predict` decides on, with `most` candidates, and the proposal that each region is."""
        found = []
        for of_image, boxes, scores, large in self._said(outputs):
            fit = torch.where(large, scores, -1)
            entering = best_pairs(fit, score=max(score, 0.0), candidates=most)[:2]
            facts = self._facts(outputs.boxes[of_image])
            of_pairs = {"margin": outputs.margins[of_image]}
            found.append(Candidates(boxes, scores, *entering, too_small=~large, of_boxes=facts, of_pairs=of_pairs))
        return found

    @torch.no_grad()
    def assigned(self, outputs: RcnnOutputs, targets: Sequence[Target]) -> list[tuple[Assigned, ...]]:
        """From which proposals the way to each object is learnt; its class is learnt from the object itself."""
        found: list[tuple[Assigned, ...]] = []
        for b, target in enumerate(targets):
            regions = outputs.boxes[outputs.image == b]
            gt_index, label = match_by_iou(regions, target.boxes, target.ignore, positive=NEAR, background=NEAR)
            facts = self._facts(regions)
            proposals = assigned_by(
                gt_index,
                label,
                stride=facts["read_stride"],
                strides=(self.stride,),
                boxes=regions,
                gt_boxes=target.boxes,
                facts=facts,
                what="proposals",
                overlapping="proposals",
            )
            found.append((proposals,))
        return found

    def _facts(self, regions: Tensor) -> dict[str, Tensor]:
        """What is told of each of an image's regions [N, 4]: which proposal it is; they are read from the image."""
        number = torch.arange(1, len(regions) + 1, device=regions.device)
        return {"proposal": regions, "proposal_number": number, "read_stride": torch.full_like(number, self.stride)}

    @torch.no_grad()
    def fit(self, batches: Iterable[Batch], on_images: Callable[[int], None] = lambda count: None) -> Fitting:
        """Fit SVMs, box regressors and probabilities on the features of all regions of some images.

        Positives of a class are its objects, as they are annotated; negatives are the proposals that overlap none of
        them by an IoU of 0.3. Box regressors learn from proposals of an IoU of 0.6 on (section 2.3, appendix C).

        Args:
            batches: on the model's device; where they have no proposals, selective search makes some.
            on_images: told how many images each batch held.

        Raises:
            UsageError: as `forward`.
        """
        self.eval()
        clock, known = _Stopwatch(), TrainingRegions(self.classes)
        for batch in batches:
            clock.lap("reading")
            proposals = searched_regions(batch.images) if batch.proposals is None else batch.proposals
            regions = [boxes[:MOST_PROPOSALS] for boxes in proposals]
            clock.lap("proposals")
            objects = [target.boxes[~target.ignore] for target in batch.targets]
            together = [torch.cat(pair) for pair in zip(regions, objects, strict=True)]
            for boxes, target, features in zip(
                regions, batch.targets, self.region_features(batch.images, together), strict=True
            ):
                known.add(boxes, target, features)
            clock.lap("features")
            on_images(len(batch.images))
        clock.lap("reading")
        with torch.autocast(self.head.svm_weight.device.type, enabled=False):
            self._fit_head(known, clock)
        return Fitting(known.images, known.proposals, known.truths, clock.seconds)

    def _fit_head(self, known: TrainingRegions, clock: _Stopwatch) -> None:
        head = self.head
        mean, scale = known.standardise(FEATURE_NORM)
        head.feature_mean.copy_(mean)
        head.feature_scale.copy_(scale)
        for label in range(self.classes):
            positives = known.objects(label)
            if len(positives):
                weight = mine(positives, known.features, known.negatives(label, NEGATIVE), COST)
                head.svm_weight[label], head.svm_bias[label] = weight[:-1], weight[-1]
            else:
                head.svm_weight[label], head.svm_bias[label] = 0, -1
        clock.lap("svm")
        for label in range(self.classes):
            head.box_weight[label], head.box_bias[label] = known.box_regressor(label, RIDGE)
        clock.lap("boxes")
        for label in range(self.classes):
            margin = margins(known.features, head.svm_weight[label], head.svm_bias[label])
            head.slope[label], head.offset[label] = fit_sigmoid(margin, known.overlapping(label, OVERLAPPING))
        clock.lap("probabilities")


@dataclass(frozen=True, slots=True)
class Fitting:
    """What `fit` saw, and how long it took.

    Args:
        images, proposals, objects: how many there were.
        seconds: by phase.
    """

    images: int
    proposals: int
    objects: int
    seconds: dict[str, float]


class _Stopwatch:
    """Runs from the start; `lap` adds the seconds since the last one to those of a phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = perf_counter()

    def lap(self, phase: str) -> None:
        now = perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._last
        self._last = now

"""Where advice draws its lines, all in one place.

Calibrated on three targets and judged on three others by `tools/study_strategies`, which trains every strategy on each
and says how much AP was lost by following the advice; the table is in docs/strategy.md. Were `CALIBRATED` False, no
evidence would be called strong.
"""

from __future__ import annotations

CALIBRATED = True

FEW_OBJECTS = 150
"""A dataset whose rarest class has fewer objects is small. Of a segmenter's classes: images."""

DIFFERENT = 0.2
"""Data whose channel statistics lie further from the source's, in its standard deviations, is of another kind. For the
bundled model of photos its own training images lie at 0.07, other photos at 0.11, rendered ones at 0.27, images of a
microscope at 0.40."""

STAGE_DIFFERS = 0.3
"""The same of a single stage: `--freeze` holds the stages before the first that lies further. The last stage lies at
0.23 to 0.32 even of photos like the source's, and learning it too gained nothing there."""

SEPARABLE = 0.9
"""From chance, 0, to faultless, 1: how well a k-NN vote has to tell crops apart for new last layers alone to do. At
0.61 and 0.79 they lost 0.29 and 0.47 AP."""

SCRATCH_IMAGES = 10_000
"""With fewer images of another kind, random weights lose against loaded ones however long they learn. Source: He et al.
2019, Rethinking ImageNet Pre-training, section 5: equal from some 10,000 images of COCO on, not with 3,500 or 1,000."""

FEWEST_IMAGES = 32
"""Statistics of fewer images are rough."""

FEWEST_CROPS = 10
"""Of each class, for a k-NN vote that means something."""

NEAR = 1.25
"""A measurement within this factor of its line could have fallen on the other side."""

TABLE: dict[str, tuple[float, str]] = {
    "few_objects": (FEW_OBJECTS, "fewer objects of the rarest class: little data"),
    "different": (DIFFERENT, "larger distance of channel statistics: another kind of images"),
    "stage_differs": (STAGE_DIFFERS, "larger distance of a stage: not held still"),
    "separable": (SEPARABLE, "lower k-NN score of crops: new last layers alone are not enough"),
    "scratch_images": (SCRATCH_IMAGES, "fewer images of another kind: no random weights"),
    "fewest_images": (FEWEST_IMAGES, "fewer images: rough statistics"),
    "fewest_crops": (FEWEST_CROPS, "fewer crops of a class: a rough vote"),
    "near": (NEAR, "within this factor of a line: undecided"),
}

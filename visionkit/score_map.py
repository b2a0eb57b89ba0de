"""What a score is worth: the share of a model's detections with that score that are right. Stored beside its weights.

A map leaves scores as they are and stands beside them: thresholds, the order of detections and AP go by scores, and do
not change. `visionkit.metrics.score_calibration` makes maps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from visionkit.errors import CheckpointError

Method = Literal["temperature", "platt", "isotonic"]
METHODS: tuple[Method, ...] = get_args(Method)
# Scores of exactly 0 and 1 have no logit.
CLOSEST = 1e-6


@dataclass(frozen=True)
class ScoreMap:
    """A map of scores in [0, 1] to confidences in [0, 1] that never falls.

    Args:
        method: `temperature` and `platt`: the logistic of `scale` * logit(score) + `shift`, where the first has no
            shift (Guo et al., "On Calibration of Modern Neural Networks", 2017, section 4.2; Platt, "Probabilistic
            Outputs for Support Vector Machines", 1999). `isotonic`: straight lines between points (Zadrozny and Elkan,
            "Transforming Classifier Scores into Accurate Multiclass Probability Estimates", 2002).
        scale: above 0.
        shift: added to the logits.
        points: (score, confidence), neither falling; at least one of `isotonic`, none else.

    >>> ScoreMap("temperature", scale=0.5)(np.array([0.5, 0.9])).round(4).tolist()  # logit 2.197 is halved
    [0.5, 0.75]
    >>> ScoreMap("isotonic", points=((0.0, 0.0), (0.5, 0.8), (1.0, 0.9)))(np.array([0.25, 0.75])).round(4).tolist()
    [0.4, 0.85]
    """

    method: Method
    scale: float = 1.0
    shift: float = 0.0
    points: tuple[tuple[float, float], ...] = ()

    def __call__(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """The confidences f64 [N] of scores [N]."""
        if self.method == "isotonic":
            at, confidences = np.array(self.points, np.float64).T
            between: NDArray[np.float64] = np.interp(scores, at, confidences)
            return between
        values: NDArray[np.float64] = self.scale * logit(scores) + self.shift
        return 1 / (1 + np.exp(-values))

    def to_json(self) -> dict[str, Any]:
        """As weights files and exported graphs store it."""
        return {**asdict(self), "points": [list(point) for point in self.points]}

    @classmethod
    def from_json(cls, content: Any) -> ScoreMap:
        """The inverse of `to_json`.

        Raises:
            CheckpointError: it is no map that this version knows.
        """
        try:
            points = tuple((float(score), float(confidence)) for score, confidence in content["points"])
            found = cls(content["method"], float(content["scale"]), float(content["shift"]), points)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"the model's calibration cannot be read ({type(error).__name__}: {error})") from None
        if found.method not in METHODS or not found._is_sound():
            raise CheckpointError("the model's calibration is no map that this version knows; update visionkit")
        return found

    def _is_sound(self) -> bool:
        if self.method != "isotonic":
            return bool(np.isfinite([self.scale, self.shift]).all()) and self.scale > 0 and not self.points
        points = np.array(self.points, np.float64).reshape(-1, 2)
        in_range = bool(((points >= 0) & (points <= 1)).all())
        return len(points) > 0 and in_range and bool((np.diff(points, axis=0) >= 0).all())


def logit(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """log(score / (1 - score)), of scores at most `1 - CLOSEST` and at least `CLOSEST`."""
    inside = np.clip(np.asarray(scores, np.float64), CLOSEST, 1 - CLOSEST)
    return np.log(inside / (1 - inside))


def score_map_of(card: Mapping[str, Any]) -> ScoreMap | None:
    """The map in the metadata of a weights file or of an exported graph; None where it has none.

    Raises:
        CheckpointError: it has one that cannot be read.
    """
    content = card.get("calibration")
    return None if content is None else ScoreMap.from_json(content)

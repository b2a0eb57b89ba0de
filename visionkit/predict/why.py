"""Why a detector says what it says of an image, as a JSON document in the pixels of that image.

    {"settings": {"conf", "iou", "max_det", "candidates"},
     "counts": {FATE: how many of all candidates},
     "candidates": [{"bbox": [x1, y1, x2, y2], "score", "label", "category_id", "name", "fate"[, "by", "iou"], "from"}]}

A candidate is a place of the network and a class that it may be of. Its fate is one of

- `kept`: a detection. They come first and in the order of the result's items;
- `beyond_max_det`: it would have been one, were there not enough better ones;
- `suppressed`: `by` another candidate, its place in this list counted from 0, which is of its class, scores more and
  overlaps it by `iou`, more than the setting;
- `gave_way`: of an image in tiles: kept in its view, but `by` of another view stands for the same object; `iou` is of
  the two, or of this one alone where its view cuts it;
- `in_padding`: kept, but wholly beyond the image;
- `beyond_candidates`: it scored enough, but too many scored more: it never entered suppression;
- `too_small`: it scored enough, but next to nothing of it is in the image;
- `below_conf`: it scored less than asked for.

Of an image in tiles the document has `views`, the windows [x1, y1, x2, y2] that the model looked at, and of each
candidate the place of its `view` among them; so it counts what all views had.

All that entered suppression are in the list; of the others the best 300. Candidates of classes that no one asked for
are not in the list, and not counted.

`from` has where it came from and what its score was made of, as the model has it:

- `stride` and `cell`: input pixels of a cell of the map, and its column and row from 0; `box_of_cell`, which of its
  boxes, from 0;
- `anchor`: the anchor box, which may reach beyond the image; `anchor_size`, the root of its area in network pixels, and
  `anchor_ratio`, height / width;
- `proposal`: the region that was proposed, `proposal_number`, its place among all, from 1, the best; `objectness` and
  `objectness_logit` as the proposals have them; `read_stride`, the map its features were read from, 1 where these are
  of the image itself. `stride`, `cell` and `anchor` are then those of the anchor that the proposal came from;
- `logit`: of the class, before it became the score by the sigmoid; or, beside a logit of each class and of background,
  by the softmax. `background`: what it gives to background;
- `margin`: of the class's support vector machine, before it became the score by the sigmoid of that class;
- `confidence` and `class_probability`: their product is the score.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionkit.classes import ClassTable
from visionkit.imaging.letterbox import Frame
from visionkit.predict.backend import RawDetections
from visionkit.predict.merging import Found, Window, came_before

BOXES = ("anchor", "proposal")
"""Facts that are boxes: in the document they are in pixels of the image."""

KEPT = "kept"
GAVE_WAY = "gave_way"


@dataclass(frozen=True, slots=True)
class RawWhy:
    """What became of P candidates of one letterboxed image, in network pixels; those that are kept first, best first.

    Args:
        boxes, scores, labels: f32 [P, 4], f32 [P], i64 [P].
        fates: P names, from `kept` to `below_conf`.
        remover: i64 [P], the place of the one that suppressed each; -1 where none did.
        overlap: f32 [P], IoU with that one.
        facts: by name, [P] or [P, V].
        counts: by fate and label, how many of all candidates, i64 [K] each.
        settings: `conf`, `iou`, `max_det` and `candidates`.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    fates: tuple[str, ...]
    remover: NDArray[np.int64]
    overlap: NDArray[np.float32]
    facts: Mapping[str, NDArray[Any]]
    counts: Mapping[str, NDArray[np.int64]]
    settings: Mapping[str, float]

    def kept(self) -> RawDetections:
        """What is kept, as a backend says it, without masks."""
        count = self.fates.count(KEPT)
        return RawDetections(self.boxes[:count], self.scores[:count], self.labels[:count])


def why_document(
    raw: RawWhy, frame: Frame, classes: ClassTable, wanted: NDArray[np.int64] | None = None
) -> dict[str, Any]:
    """The document of one image.

    Args:
        wanted: labels that were asked for; all where None.
    """
    is_told = np.full(len(raw.labels), True) if wanted is None else np.isin(raw.labels, wanted)
    # A box goes by one of its class, so that no `by` leads out of the list.
    place = np.cumsum(is_told) - 1
    boxes = frame.to_original(raw.boxes)
    is_inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    sources = fact_rows(raw.facts, frame, len(raw.labels))
    candidates = []
    for i in np.flatnonzero(is_told).tolist():
        label = int(raw.labels[i])
        fate = raw.fates[i] if is_inside[i] or raw.fates[i] != KEPT else "in_padding"
        candidate: dict[str, Any] = {
            "bbox": [round(v, 2) for v in boxes[i].tolist()],
            "score": number(raw.scores[i], 5),
            "label": label,
            "category_id": classes.category_ids[label],
            "name": classes.names[label],
            "fate": fate,
        }
        if raw.remover[i] >= 0:
            candidate |= {"by": int(place[raw.remover[i]]), "iou": number(raw.overlap[i], 4)}
        candidates.append({**candidate, "from": sources[i]})
    asked = slice(None) if wanted is None else wanted
    counts = {fate: int(of_labels[asked].sum()) for fate, of_labels in raw.counts.items()}
    beyond = sum(candidate["fate"] == "in_padding" for candidate in candidates)
    counts |= {KEPT: counts[KEPT] - beyond, "in_padding": beyond}
    # What is kept but not in the image is no item: the items shall stand first all the same.
    return {"settings": dict(raw.settings), "counts": counts, "candidates": _items_first(candidates)}


def joined_why(
    documents: Sequence[dict[str, Any]],
    windows: Sequence[Window],
    found: Found,
    places: NDArray[np.int64],
    wanted: NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    """The document of an image in tiles.

    Args:
        documents: of each view.
        windows: what the views show.
        found: what is kept in them, one view after another.
        places: what `merged_places` left of it.
        wanted: labels that were asked for, which the documents have; all where None.
    """
    if wanted is not None:
        is_told = np.isin(found.labels, wanted)
        places = (np.cumsum(is_told) - 1)[places[is_told[places]]]
        found = found.take(is_told)
    starts = np.cumsum([0, *(len(document["candidates"]) for document in documents)])
    candidates = [
        {**one, "view": view, **({"by": int(starts[view]) + one["by"]} if "by" in one else {})}
        for view, document in enumerate(documents)
        for one in document["candidates"]
    ]
    # Those that are kept stand first in the list of their view.
    listed = starts[found.view] + np.arange(len(found.view)) - np.searchsorted(found.view, found.view)
    for gone in sorted({*range(len(listed))} - {*places.tolist()}):
        rival = came_before(found, gone, places)
        candidates[listed[gone]] |= (
            {"fate": "beyond_max_det"}
            if rival is None
            else {"fate": GAVE_WAY, "by": int(listed[rival[0]]), "iou": number(rival[1], 4)}
        )
    fates = Counter(one["fate"] for one in candidates)
    counts = sum((Counter(document["counts"]) for document in documents), Counter())
    in_list = {name: fates[name] for name in (KEPT, GAVE_WAY, "beyond_max_det")}
    kept = listed[places].tolist()
    return {
        "settings": documents[0]["settings"],
        "counts": {**{name: counts[name] for name in documents[0]["counts"]}, **in_list},
        "views": [list(window) for window in windows],
        "candidates": _reordered(candidates, [*kept, *sorted({*range(len(candidates))} - {*kept})]),
    }


def _items_first(candidates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return _reordered(candidates, sorted(range(len(candidates)), key=lambda i: candidates[i]["fate"] != KEPT))


def _reordered(candidates: list[dict[str, Any]], order: Sequence[int]) -> list[dict[str, Any]]:
    """Candidates in another order, whose `by` says the new places."""
    new_place = {old: new for new, old in enumerate(order)}
    moved = [candidates[i] for i in order]
    return [{**one, "by": new_place[one["by"]]} if "by" in one else one for one in moved]


def fact_rows(facts: Mapping[str, NDArray[Any]], frame: Frame, count: int) -> list[dict[str, Any]]:
    """Where each of so many candidates came from, as JSON: boxes in pixels of the image."""
    columns = {
        name: frame.to_plane(values).astype(np.float64).round(2) if name in BOXES else values
        for name, values in facts.items()
    }
    return [{name: _as_json(values[i]) for name, values in columns.items()} for i in range(count)]


def _as_json(value: Any) -> Any:
    if np.ndim(value):
        return [_as_json(part) for part in value]
    return int(value) if isinstance(value, np.integer) else number(value, 5)


def number(value: float | np.floating[Any], digits: int) -> float | None:
    """Rounded; None where it is not finite, which JSON cannot say."""
    return round(float(value), digits) if np.isfinite(value) else None

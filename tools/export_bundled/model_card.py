"""The model card of the bundled model, from what was measured; its words are in MODEL_CARD.template.md."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from visionkit.build import LoadedModel
from visionkit.bundled.files import NAME
from visionkit.choices import flatten
from visionkit.config import Recipe
from visionkit.exporting.certificate import Certificate
from visionkit.metrics.coco_map import CocoScores

TEMPLATE = Path(__file__).with_name("MODEL_CARD.template.md")
WEAK = 0.1  # an AP below it is named among the failures
FEW = 5  # weakest classes named


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the card says of one model.

    Args:
        scores: of the file as it ships.
        full: of the same weights in full precision.
        commands: that trained it.
        contents: the annotation files by split, as JSON.
    """

    loaded: LoadedModel
    scores: CocoScores
    full: CocoScores
    certificate: Certificate
    commands: tuple[str, ...]
    contents: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        loaded: LoadedModel,
        scores: CocoScores,
        full: CocoScores,
        certificate: Certificate,
        data: Path,
        commands: tuple[str, ...],
    ) -> Facts:
        annotations = {split: data / "annotations" / f"{split}.json" for split in ("train", "val")}
        contents = {split: json.loads(path.read_text(encoding="utf-8")) for split, path in annotations.items()}
        return cls(loaded, scores, full, certificate, commands or (training_command(loaded.recipe),), contents)


def training_command(recipe: Recipe) -> str:
    """The command that trains by this recipe from nothing: its values that are not the defaults."""
    own, default = (flatten(r.model_dump(mode="json")) for r in (recipe, Recipe()))
    changes = [
        f"{key}={json.dumps(value) if not isinstance(value, str) else value}"
        for key, value in own.items()
        if value != default.get(key)
    ]
    return shlex.join(
        ["visionkit", "finetune", "--data", "general-photos", "--weights", "scratch"]
        + [word for change in changes for word in ("--set", change)]
    )


def model_card(facts: Facts) -> str:
    """The card as Markdown, without dates and paths."""
    loaded, scores = facts.loaded, facts.scores
    recipe, names = loaded.recipe, loaded.classes.names
    images = {split: len(content["images"]) for split, content in facts.contents.items()}
    licences = _licences(facts.contents)
    values = {
        "name": NAME,
        "class_count": len(names),
        "classes": ", ".join(names),
        "architecture": loaded.name,
        "parameters": f"{sum(p.numel() for p in loaded.model.parameters()) / 1e6:.2f} M",
        "imgsz": recipe.imgsz,
        "full_AP": _score(facts.full.AP),
        "train_images": images["train"],
        "val_images": images["val"],
        "all_images": sum(images.values()),
        "val_objects": sum(row.objects for row in scores.per_class.values()),
        "recorded": sum(licences.values()),
        "licences": ", ".join(f"{count} {name}" for name, count in licences.most_common()),
        "rows": "\n".join(_rows(facts)),
        "failures": "\n".join(_failures(scores)),
        "commands": "\n".join(f"    {command}" for command in facts.commands),
        "recipe": _recipe_words(loaded),
        "agreement": _agreement_words(facts.certificate),
    }
    values |= {name: _score(getattr(scores, name)) for name in ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")}
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(values)


def _recipe_words(loaded: LoadedModel) -> str:
    recipe, settings = loaded.recipe, loaded.recipe.train
    return (
        f"Epoch {loaded.scores.get('epoch', '?')} of {settings.epochs}, the best; images at {recipe.imgsz} px in "
        f"batches of {settings.batch * settings.accumulate}, {settings.optimizer} at learning rate {settings.lr:g}, "
        f"seed {settings.seed}. The weights are a running average over the training."
    )


def _agreement_words(certificate: Certificate) -> str:
    """How the graph agrees with the model."""
    facts = certificate.facts
    ours, theirs = certificate.metrics["AP"]
    return (
        f"{facts['detections_of_model']} detections in {certificate.images} images, {facts['unmatched']} of both sides "
        f"without a counterpart; boxes overlap by at least {facts['smallest_iou']:.4f}, scores differ by at most "
        f"{facts['largest_score_difference']:.1g}; AP {_score(ours)} and {_score(theirs)}"
    )


def _score(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _rows(facts: Facts) -> list[str]:
    """A row a class, best first."""
    content = facts.contents["train"]
    names = {row["id"]: row["name"] for row in content["categories"]}
    learnt = Counter(names[row["category_id"]] for row in content["annotations"] if not row.get("iscrowd"))
    ordered = sorted(facts.scores.per_class.items(), key=lambda item: item[1].AP or 0, reverse=True)
    return [
        f"| {name} | {_score(row.AP)} | {_score(row.AP50)} | {_score(row.AR100)} | {row.objects} | {learnt[name]} |"
        for name, row in ordered
    ]


def _failures(scores: CocoScores) -> list[str]:
    """What the numbers say of its weaknesses, a point each."""
    by_ap = sorted((row.AP or 0, name) for name, row in scores.per_class.items() if row.AP is not None)
    worst = ", ".join(f"{name} ({ap:.3f})" for ap, name in by_ap[:FEW])
    points = [f"- The weakest classes, by AP: {worst}."]
    weak = [name for ap, name in by_ap if ap < WEAK]
    if weak:
        points.append(f"- {len(weak)} of {len(by_ap)} classes have an AP below {WEAK:g}; do not rely on those at all.")
    if scores.APs is not None and scores.APl is not None:
        points.append(
            f"- Small things: AP {scores.APs:.3f}, large ones {scores.APl:.3f}. Crowded groups are seen in part."
        )
    if scores.AR100 is not None:
        points.append(
            f"- Recall over IoU 0.5 to 0.95 is {scores.AR100:.3f} with 100 guesses of a class an image (AR100), most "
            "of them unsure: at the usual threshold of 0.25 it finds fewer."
        )
    return points


def _licences(contents: Mapping[str, Any]) -> Counter[str]:
    """Images by the name of their recorded licence."""
    counts: Counter[str] = Counter()
    for content in contents.values():
        names = {row["id"]: row["name"] for row in content.get("licenses", ()) if row["id"]}
        counts.update(names[row["license"]] for row in content["images"] if row.get("license") in names)
    return counts

"""What the caller of `finetune` said, as settings with their origins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from visionkit.choices import Choices, parse_assignments, read_augment, read_config_file
from visionkit.errors import UsageError

# Flags whose setting lies in the group `train`.
_TRAIN_FLAGS = ("epochs", "batch", "lr", "lr_backbone", "optimizer", "patience", "seed", "amp")
_FLAGS = (
    "model", "backbone", "weights", "minutes", "force", "imgsz", "augment", "cache", "device", "threads", "workers",
    "tensorboard", "skip_bad", "waive", "offline", "max_images", "strategy", "unfreeze", "keep_classes", "guard",
    "tile", "overlap",
    *_TRAIN_FLAGS,
)  # fmt: skip


def run_choices(
    data: str | Path | None,
    freeze_specs: str | int | Sequence[str | int],
    config: str | Path | None,
    assignments: Sequence[str],
    flags: Mapping[str, Any],
) -> Choices:
    """Put together what was said in a config file, in assignments and by flags; of equals the last wins.

    Args: as for `visionkit.finetune`, whose `set` are the assignments.

    Raises:
        UsageError: an option that `finetune` does not have.
        ConfigError: a file or an assignment that cannot be read.
    """
    choices = Choices()
    if config is not None:
        choices.say(read_config_file(Path(config)), "file")
    assigned = parse_assignments(assignments)
    augment = flags.get("augment")
    if augment is not None:
        # Before --set, which may change single values of it; but as a whole the flag wins.
        choices.say(read_augment(augment), "flag")
        assigned = {key: value for key, value in assigned.items() if key not in ("augment", "augment.base")}
    choices.say(assigned, "set")
    unknown = [name for name in flags if name not in _FLAGS]
    if unknown and unknown[0] in ("folds", "seeds"):
        raise UsageError(f"finetune makes one run, and {unknown[0]} are several; use visionkit.study({unknown[0]}=...)")
    if unknown:
        raise UsageError(f"finetune has no option {unknown[0]!r}; the options are {', '.join(sorted(_FLAGS))}")
    given = {name: value for name, value in flags.items() if value is not None and name != "augment"}
    said = {f"train.{name}" if name in _TRAIN_FLAGS else name: value for name, value in given.items()}
    for name in ("weights", "guard"):
        if isinstance(said.get(name), Path):
            said[name] = str(said[name])
    specs = [freeze_specs] if isinstance(freeze_specs, str | int) else freeze_specs
    if specs:
        said["freeze"] = [str(spec) for spec in specs]
    if data is not None:
        said["data"] = str(data)
    choices.say(said, "flag")
    return choices

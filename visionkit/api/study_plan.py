"""Which runs a study of several consists of, written down so that it can be gone on with."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from visionkit.api.run_choices import run_choices
from visionkit.choices import Choices
from visionkit.data.augment import AugmentSettings
from visionkit.data.augment_values import values_of
from visionkit.engine.checkpoint import write_atomically
from visionkit.errors import CheckpointError, UsageError
from visionkit.formats.folds import Fold
from visionkit.formats.layout import layout_in

SCHEMA = "visionkit.study/1"
PLAN = "study.json"
Kind = Literal["folds", "seeds"]

# What may name a file here: a study goes on from any folder.
_PATHS = ("data", "config", "weights", "augment", "guard")


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """Which runs a study consists of.

    Args:
        kind: whether they differ in the fold that is val, or in the seed.
        count: how many.
        seed: of all folds, or the first of the seeds.
        data: as `finetune` takes it.
        options: of `finetune`: freeze, config, set and flags.

    >>> plan = StudyPlan("folds", 2, seed=0, data="sample", options={"set": ["imgsz=64"]})
    >>> plan.runs()["fold-2"], [*StudyPlan("seeds", 3, 7, "sample", {}).runs()]
    ({'set': ['imgsz=64', 'fold=2/2']}, ['seed-7', 'seed-8', 'seed-9'])
    """

    kind: Kind
    count: int
    seed: int
    data: str | None
    options: Mapping[str, Any]

    def runs(self) -> dict[str, dict[str, Any]]:
        """The options of each run, by the name of its folder: `fold-1`, ... or `seed-0`, ..."""
        if self.kind == "seeds":
            seeds = range(self.seed, self.seed + self.count)
            return {f"seed-{seed}": {**self.options, "seed": seed} for seed in seeds}
        folds = [Fold(number, self.count) for number in range(1, self.count + 1)]
        return {f"fold-{f.number}": {**self.options, "set": [*self.options["set"], f"fold={f}"]} for f in folds}

    def write(self, root: Path) -> None:
        """As `study.json` of the study's folder."""
        write_json(root / PLAN, {"schema": SCHEMA, **asdict(self)})

    @classmethod
    def read(cls, root: Path) -> StudyPlan:
        """Raises CheckpointError: there is none in the folder, or it is of another version."""
        try:
            content = json.loads((root / PLAN).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise CheckpointError(
                f"no whole plan at {root / PLAN}; only the folder of several runs can be gone on with so"
            ) from None
        if not isinstance(content, dict) or content.pop("schema", None) != SCHEMA:
            raise CheckpointError(f"{root / PLAN} is not of schema {SCHEMA}, which this version reads; start anew")
        return cls(**content)


def is_study(folder: Path) -> bool:
    """Whether a folder is that of a study."""
    return (folder / PLAN).is_file()


def plan_study(data: str | Path | None, folds: int | None, seeds: int | None, options: Mapping[str, Any]) -> StudyPlan:
    """The plan of what was asked for, checked as far as settings alone tell.

    Args: as for `visionkit.api.study.study`; `options` holds freeze, config, set and flags.

    Raises:
        UsageError, ConfigError: it makes no study, or `finetune` would refuse the settings.
    """
    kind: Kind = "seeds" if folds is None else "folds"
    count = seeds if folds is None else folds
    if count is None or (folds is not None and seeds is not None):
        raise UsageError("several runs differ in their fold or in their seed; give either --folds or --seeds")
    if count < 2:
        raise UsageError(f"--{kind} must be 2 or more, got {count}; for a single run leave it out")
    if options.get("find_lr"):
        raise UsageError(f"--find-lr tries the learning rates of one run; leave out --{kind}")
    plain = {name: _plain(name, value) for name, value in options.items() if value is not None}
    plain |= {name: _listed(plain.get(name, ())) for name in ("freeze", "set")}
    if data is None and layout_in(Path.cwd()) is not None:
        data = Path.cwd()
    settings = _settings(data, plain)
    config = settings.config()
    if kind == "folds" and settings.origin("fold") != "default":
        raise UsageError("--folds makes each part val in turn, and a setting names one, fold; leave one of them out")
    if kind == "folds" and config.proposals:
        raise UsageError("--folds deals images out anew, and proposals are those of a split; leave one of them out")
    return StudyPlan(kind, count, config.train.seed, None if data is None else _plain("data", data), plain)


def _settings(data: str | Path | None, options: Mapping[str, Any]) -> Choices:
    flags = {name: value for name, value in options.items() if name not in ("freeze", "config", "set")}
    if flags.get("batch") == "auto":
        del flags["batch"]
    return run_choices(data, options["freeze"], options.get("config"), options["set"], flags)


def _listed(value: Any) -> list[Any]:
    return [value] if isinstance(value, str | int) else list(value)


def _plain(name: str, value: Any) -> Any:
    """A value as JSON knows it; what names a file here by its whole path."""
    if isinstance(value, AugmentSettings):
        return values_of(value)
    if name in _PATHS and isinstance(value, str | Path) and os.path.exists(value):
        return str(Path(value).resolve())
    return str(value) if isinstance(value, Path) else value


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Durably: whoever reads it finds the old content or the new."""
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())

"""Train a detector on a dataset: the main job, from words to weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from visionkit.api.prepare import Prepared, Say, prepare, prepare_resumed, say_plan
from visionkit.api.time_budget import fix_epochs, settle_length
from visionkit.api.training_run import FinetuneResult, run_training
from visionkit.config import Choices, describe, parse_assignments, read_augment, read_config_file
from visionkit.engine.events import Listener
from visionkit.engine.run_folder import RunFolder, numbered_folder
from visionkit.errors import UsageError

DRY_RUN_ENDS = "Dry run: nothing was trained, no run folder was made"


def finetune(
    data: str | Path | None = None,
    *,
    freeze: str | int | Sequence[str | int] = (),
    config: str | Path | None = None,
    set: Sequence[str] = (),
    out: str | Path | None = None,
    resume: str | Path | None = None,
    dry_run: bool = False,
    listen: Listener = lambda event: None,
    say: Say = lambda line: None,
    on_skip: Callable[[str], None] = lambda line: None,
    **flags: Any,
) -> FinetuneResult | None:
    """Train a detector on a dataset with a train and a val split.

    Args:
        data: dataset folder or YAML file; None for the one in the current folder or, where there is none, the rendered
            sample.
        freeze: units to hold still: 10, "backbone", "0-4", ...; one or several.
        config: YAML file of settings.
        set: settings as KEY=VALUE.
        out: folder of the run; by default a new one under runs/finetune.
        resume: folder of a run that was interrupted; it goes on where it was, and ends as if it never had been.
        dry_run: check and print everything, train nothing.
        listen: told what happens, event by event.
        say: told, line by line, what a user should read.
        on_skip: told, a line each, the items that `skip_bad` leaves out of the data; the run's log names them too.
        flags: any other setting by its name on the command line: model, backbone, weights, force, epochs or minutes,
            batch, imgsz, lr, optimizer, patience, seed, augment (a preset, a YAML file or settings), cache, device,
            threads, workers, amp, tensorboard, skip_bad, offline.

    Returns:
        The result, or None after a dry run.

    Raises:
        UsageError, ConfigError, DataError, CheckpointError: something given is wrong; nothing was done.
        VisionkitError: training failed on its way; the last state is saved.
    """
    if resume is not None:
        flags.pop("offline", None)  # nothing is downloaded for a run that has begun
        if any(value is not None for value in flags.values()) or freeze or config or set or out or data:
            raise UsageError("--resume goes on with the run's own settings and takes no other; leave them out")
        folder = RunFolder(Path(resume))
        if dry_run:
            _tell_left_out(prepare_resumed(folder, say), on_skip, lambda line: None)
            say(DRY_RUN_ENDS)
            return None
        say_and_log = _logging(say, folder)
        resumed = prepare_resumed(folder, say_and_log)
        _tell_left_out(resumed, on_skip, folder.add_to_log)
        return run_training(resumed, folder, listen, say_and_log)
    if out is not None:
        RunFolder.check_free(Path(out))
    choices = _choices(data, freeze, config, set, flags)
    said: list[str] = []

    def say_and_keep(line: str) -> None:
        said.append(line)
        say(line)

    settle_length(choices, say_and_keep)
    prepared, budget = prepare(choices, say_and_keep, listen=listen), None
    _tell_left_out(prepared, on_skip, said.append)
    if prepared.config.minutes is not None:
        beside = Path("runs") if out is None else Path(out)
        prepared, budget = fix_epochs(prepared, choices, beside, say_and_keep)
    say_plan(prepared, say_and_keep)
    if dry_run:
        say(DRY_RUN_ENDS)
        return None
    if out is not None:
        folder = RunFolder.create(Path(out))
    else:
        folder = RunFolder(numbered_folder(Path("runs") / "finetune", prepared.layout.root.resolve().name))
    folder.config.write_text(describe(prepared.config, choices), encoding="utf-8")
    if prepared.transfer is not None:
        folder.transfer.write_text(json.dumps(prepared.transfer.to_json(), indent=1) + "\n", encoding="utf-8")
    for line in said:
        folder.add_to_log(line)
    say_and_log = _logging(say, folder)
    result = run_training(prepared, folder, listen, say_and_log)
    if budget is not None:
        say_and_log(budget.sentence())
    return result


def _tell_left_out(run: Prepared, on_skip: Callable[[str], None], log: Callable[[str], None]) -> None:
    for line in run.left_out:
        on_skip(line)
        log(f"left out: {line}")


def _logging(say: Say, folder: RunFolder) -> Say:
    """`say`, with every line also in the run's log."""

    def say_and_log(line: str) -> None:
        folder.add_to_log(line)
        say(line)

    return say_and_log


# Flags whose setting lies in the group `train`.
_TRAIN_FLAGS = ("epochs", "batch", "lr", "optimizer", "patience", "seed", "amp")
_FLAGS = (
    "model", "backbone", "weights", "minutes", "force", "imgsz", "augment", "cache", "device", "threads", "workers",
    "tensorboard", "skip_bad", "offline",
    *_TRAIN_FLAGS,
)  # fmt: skip


def _choices(
    data: str | Path | None,
    freeze_specs: str | int | Sequence[str | int],
    config: str | Path | None,
    assignments: Sequence[str],
    flags: dict[str, Any],
) -> Choices:
    choices = Choices()
    if config is not None:
        choices.say(read_config_file(Path(config)), "file")
    assigned = parse_assignments(assignments)
    augment = flags.pop("augment", None)
    if augment is not None:
        # Before --set, which may change single values of it; but as a whole the flag wins.
        choices.say(read_augment(augment), "flag")
        assigned = {key: value for key, value in assigned.items() if key not in ("augment", "augment.base")}
    choices.say(assigned, "set")
    unknown = [name for name in flags if name not in _FLAGS]
    if unknown:
        raise UsageError(f"finetune has no option {unknown[0]!r}; the options are {', '.join(sorted(_FLAGS))}")
    said = {f"train.{k}" if k in _TRAIN_FLAGS else k: v for k, v in flags.items() if v is not None}
    if isinstance(said.get("weights"), Path):
        said["weights"] = str(said["weights"])
    specs = [freeze_specs] if isinstance(freeze_specs, str | int) else freeze_specs
    if specs:
        said["freeze"] = [str(spec) for spec in specs]
    if data is not None:
        said["data"] = str(data)
    choices.say(said, "flag")
    return choices

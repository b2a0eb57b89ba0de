"""Train a detector on a dataset: the main job, from words to weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from visionkit.api.batch_size import fit_batch
from visionkit.api.find_rate import find_rate
from visionkit.api.fitting import run_fitting, say_fitting_plan, settle_fitting
from visionkit.api.freezing import require_thaws_within
from visionkit.api.guard import forgotten
from visionkit.api.prepare import Prepared, Say, prepare, say_plan
from visionkit.api.resume import prepare_resumed
from visionkit.api.run_choices import run_choices
from visionkit.api.run_failures import steps_explained
from visionkit.api.run_report import check_reportable, write_run_report
from visionkit.api.shared_run import begun, require_shareable, speaking
from visionkit.api.source_memory import remember_source
from visionkit.api.study_plan import is_study
from visionkit.api.task_data import is_fitted
from visionkit.api.time_budget import TimeBudget, fix_epochs, settle_length
from visionkit.api.training_run import FinetuneResult, run_training
from visionkit.choices import Choices, describe
from visionkit.engine.checkpoint import set_aside_damaged
from visionkit.engine.distributed import TorchProcesses, by_first, joined_processes
from visionkit.engine.events import Listener
from visionkit.engine.interruption import StopRequest
from visionkit.engine.numbered_folder import numbered_folder
from visionkit.engine.run_folder import RunFolder
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
    find_lr: bool = False,
    report: bool = False,
    listen: Listener = lambda event: None,
    say: Say = lambda line: None,
    on_skip: Callable[[str], None] = lambda line: None,
    stop: StopRequest | None = None,
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
        find_lr: train a copy for some steps at rising learning rates, say which one suits, draw why, and train nothing.
        report: write `report.html` into the run's folder at the end: an evaluation more; not of classifiers.
        listen: told what happens, event by event.
        say: told, line by line, what a user should read.
        on_skip: told, a line each, the items that `skip_bad` leaves out of the data; the run's log names them too.
        stop: asks the run to end after its step, with its state saved; a signal handler may.
        flags: any other setting by its name on the command line: model, backbone, weights, strategy, unfreeze (one or
            several), force, epochs or minutes, batch (a number or "auto"), imgsz, lr, lr_backbone, optimizer, patience,
            seed, augment (a preset, a YAML file or settings), cache, device, threads, workers, amp, tensorboard,
            skip_bad, waive (codes of errors), offline, max_images, keep_classes (learn the classes of the data beside
            those of the weights), guard (a COCO file or a dataset of old classes: AP of each before and after).

    Returns:
        The result, or None after a dry run, after `find_lr`, which tells `listen` the rate (`RateFound`), and in all
        but the first of several processes that torchrun started.

    Raises:
        UsageError, ConfigError, DataError, CheckpointError: something given is wrong; nothing was done.
        VisionkitError: training failed on its way; the last state is saved.
        InterruptedRunError: `stop` asked for it, and the state is saved.
    """
    with joined_processes() as processes:
        listen, say, on_skip = speaking(processes, listen, say, on_skip)
        if resume is not None:
            flags.pop("offline", None)  # nothing is downloaded for a run that has begun
            elsewhere = {name: flags.pop(name) for name in _CHANGE_NOTHING if flags.get(name) is not None}
            if any(value is not None for value in flags.values()) or freeze or config or set or out or data or find_lr:
                raise UsageError("--resume goes on with the run's own settings and takes no other; leave them out")
            result = _go_on(Path(resume), elsewhere, dry_run, report, listen, say, on_skip, stop, processes)
        elif begun(out, processes) == "with a state" and out is not None:
            result = _go_on(Path(out), {}, dry_run, report, listen, say, on_skip, stop, processes)
        else:
            result = _begin(
                data, freeze, config, set, out, dry_run, find_lr, report, listen, say, on_skip, stop, flags, processes
            )
        return result if processes is None or processes.first else None


def _go_on(
    root: Path,
    elsewhere: dict[str, Any],
    dry_run: bool,
    report: bool,
    listen: Listener,
    say: Say,
    on_skip: Callable[[str], None],
    stop: StopRequest | None,
    processes: TorchProcesses | None,
) -> FinetuneResult | None:
    """The run in a folder, from where its state is."""
    if is_study(root):
        raise UsageError(
            f"{root} is the folder of several runs; go on with all by visionkit.study(resume=...), or with one "
            "by its own folder"
        )
    folder = RunFolder(root)
    if dry_run:
        _tell_left_out(prepare_resumed(folder, say, processes, elsewhere), on_skip, lambda line: None)
        say(DRY_RUN_ENDS)
        return None
    (log,) = speaking(processes, folder.add_to_log)
    say_and_log = _logging(say, log)
    resumed = prepare_resumed(folder, say_and_log, processes, elsewhere)
    by_first(processes, lambda: set_aside_damaged(folder.state))
    if report:
        check_reportable(resumed)
    _tell_left_out(resumed, on_skip, log)
    result = run_training(resumed, folder, listen, say_and_log, stop=stop, processes=processes)
    return _finished(result, resumed, report, listen, say_and_log, processes)


def _begin(
    data: str | Path | None,
    freeze: str | int | Sequence[str | int],
    config: str | Path | None,
    set: Sequence[str],
    out: str | Path | None,
    dry_run: bool,
    find_lr: bool,
    report: bool,
    listen: Listener,
    say: Say,
    on_skip: Callable[[str], None],
    stop: StopRequest | None,
    flags: dict[str, Any],
    processes: TorchProcesses | None,
) -> FinetuneResult | None:
    """A new run, in a folder that is free."""
    auto_batch = flags.get("batch") == "auto"
    if auto_batch:
        flags["batch"] = None
    choices = run_choices(data, freeze, config, set, flags)
    said: list[str] = []

    def say_and_keep(line: str) -> None:
        said.append(line)
        say(line)

    settle_length(choices, say_and_keep)
    prepared, budget = prepare(choices, say_and_keep, listen=listen, processes=processes), None
    if report:
        check_reportable(prepared)
    _tell_left_out(prepared, on_skip, said.append)
    fitted = is_fitted(prepared.config)
    prepared = settle_fitting(prepared, choices)
    if auto_batch and not fitted:
        prepared = fit_batch(prepared, choices, say_and_keep, processes)
    if processes is not None:
        require_shareable(prepared, processes)
    if prepared.config.minutes is not None:
        beside = Path("runs") if out is None else Path(out)
        with steps_explained(prepared, processes):
            prepared, budget = fix_epochs(prepared, choices, beside, say_and_keep, processes=processes)
    require_thaws_within(prepared.state.thaws, prepared.config.train.epochs)
    (say_fitting_plan if fitted else say_plan)(prepared, say_and_keep)
    if dry_run:
        say(DRY_RUN_ENDS)
        return None
    if find_lr:
        if fitted or processes is not None:
            raise UsageError("--find-lr tries learning rates in one process, on a model that learns step by step")
        name = prepared.layout.root.resolve().name
        root = Path(out) if out is not None else numbered_folder(Path("runs") / "find-lr", name)
        with steps_explained(prepared):
            find_rate(prepared, root, say, listen)
        return None
    again = processes is not None  # and so whether the folder is free was asked by all, when they began
    folder = by_first(processes, lambda: _new_folder(out, again, prepared, choices, said))
    say_and_log = _logging(say, *speaking(processes, folder.add_to_log))
    if fitted:
        result = run_fitting(prepared, folder, listen, say_and_log)
    else:
        result = run_training(prepared, folder, listen, say_and_log, stop=stop, processes=processes)
    return _finished(result, prepared, report, listen, say_and_log, processes, budget)


def _finished(
    result: FinetuneResult,
    run: Prepared,
    report: bool,
    listen: Listener,
    say: Say,
    processes: TorchProcesses | None,
    budget: TimeBudget | None = None,
) -> FinetuneResult:
    """The result with what follows a run: statistics of its images, with which its `budget` of time ends; its report,
    where it is wanted, and the old classes before and after, where it has a guard."""
    if not (processes is None or processes.first):
        return result
    if not is_fitted(run.config):
        remember_source(run, (result.best, result.last), listen)
    if budget is not None:
        say(budget.sentence())
    if report:
        write_run_report(run, result, listen, say)
    return result if run.guard is None else _with_what_was_forgotten(result, run, listen, say)


def _with_what_was_forgotten(result: FinetuneResult, run: Prepared, listen: Listener, say: Say) -> FinetuneResult:
    """The result with the old classes before and after, told and written."""
    assert run.guard is not None
    found = forgotten(run.guard, result.best, run.config, run.device, listen)
    for line in found.lines():
        say(line)
    found.write(result.folder)
    return replace(result, forgotten=found)


def _new_folder(
    out: str | Path | None, again: bool, prepared: Prepared, choices: Choices, said: Sequence[str]
) -> RunFolder:
    """The folder of a run with what is known before its first step; `again` where a run may have begun in it."""
    if out is not None:
        if not again:
            RunFolder.check_free(Path(out))
        folder = RunFolder(Path(out))
        folder.root.mkdir(parents=True, exist_ok=True)
    else:
        folder = RunFolder(numbered_folder(Path("runs") / "finetune", prepared.layout.root.resolve().name))
    folder.config.write_text(describe(prepared.config, choices), encoding="utf-8")
    if prepared.transfer is not None:
        folder.transfer.write_text(json.dumps(prepared.transfer.to_json(), indent=1) + "\n", encoding="utf-8")
    for line in said:
        folder.add_to_log(line)
    return folder


def _tell_left_out(run: Prepared, on_skip: Callable[[str], None], log: Callable[[str], None]) -> None:
    for line in run.left_out:
        on_skip(line)
        log(f"left out: {line}")


def _logging(say: Say, log: Say) -> Say:
    """`say`, with every line also in the run's log."""

    def say_and_log(line: str) -> None:
        log(line)
        say(line)

    return say_and_log


# Flags that a run may go on with though it began without.
_CHANGE_NOTHING = ("workers", "cache")

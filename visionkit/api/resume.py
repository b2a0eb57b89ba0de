"""A run that was interrupted, prepared to go on from where its state is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visionkit.api.prepare import STATE_FORMAT, Prepared, Say, prepare, say_plan
from visionkit.choices import Choices
from visionkit.counted import counted
from visionkit.engine.checkpoint import load_state
from visionkit.engine.distributed import TorchProcesses, by_first
from visionkit.engine.run_folder import RunFolder
from visionkit.engine.train import is_finished
from visionkit.errors import CheckpointError
from visionkit.nn.finite import require_finite


def prepare_resumed(
    folder: RunFolder,
    say: Say,
    processes: TorchProcesses | None = None,
    elsewhere: Mapping[str, Any] | None = None,
) -> Prepared:
    """The run in a folder, exactly as its state says.

    Args:
        processes: who else learns from each batch; the first one reads the state for all.
        elsewhere: settings that change no result, such as `workers`, in place of the run's own.

    Raises:
        CheckpointError: there is no whole state, it does not hold together, or its weights are not finite.
        DataError: the annotations changed since.
    """
    saved = by_first(processes, lambda: _saved_state(folder, say))
    if saved.get("format") != STATE_FORMAT:
        raise CheckpointError(
            f"{folder.state} has format {saved.get('format')!r}, this version reads {STATE_FORMAT!r}; start a new run"
        )
    for weights in ("model", "average"):
        # No run saves such weights, and from them none can go on.
        require_finite(saved["training"][weights], folder.state, "start a new run")
    choices = Choices()
    choices.say(saved["config"], "file")
    choices.say(elsewhere or {}, "flag")
    prepared = prepare(choices, say, saved)
    held = list(prepared.state.thaws.sha256)
    if prepared.frozen_sha256 != saved["frozen_sha256"] or held != list(saved.get("thaw_sha256", ())):
        raise CheckpointError(f"{folder.state}: its frozen tensors are not those the run began with; start a new run")
    if is_finished(prepared.state, prepared.config.train):
        return prepared
    say_plan(prepared, say)
    state, epochs = prepared.state, prepared.config.train.epochs
    batches = counted(state.batch, "batch", "batches")
    say(f"Resuming {folder.root} after {state.epoch} of {counted(epochs, 'epoch')} and {batches}")
    now = 1 if processes is None else processes.world_size
    before = saved.get("processes", now)  # states of earlier versions do not say
    if before != now:
        say(
            f"Until now it learnt in {counted(before, 'process', 'processes')}, from here on in {now}: speed and "
            f"results differ; to keep them start as many, on one machine by --processes {before}"
        )
    return prepared


def _saved_state(folder: RunFolder, say: Say) -> dict[str, Any]:
    if folder.config.is_file() and not folder.has_state:
        raise CheckpointError(
            f"{folder.root} holds no training state, because its run ended before the first was saved, or fits its "
            f"model at once; begin it again by --config {folder.config} and another --out"
        )
    return load_state(folder.state, say)

"""One run in the several processes that torchrun started: what they may do together, and where a restart goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from visionkit.api.prepare import Prepared
from visionkit.api.task_data import is_fitted
from visionkit.api.training_run import shared_plan
from visionkit.engine.distributed import TorchProcesses, by_first, restarts, restarts_allowed
from visionkit.engine.run_folder import RunFolder
from visionkit.errors import UsageError

Begun = Literal["new", "without a state", "with a state"]


def begun(out: str | Path | None, processes: TorchProcesses | None) -> Begun:
    """How far the run in a folder is: new, or begun by processes in whose place torchrun started these, and whether
    that run has a state to go on with.

    Raises:
        UsageError: the folder holds something else, or there is no folder to find a run again by.
    """
    if processes is not None and restarts_allowed() and out is None:
        raise UsageError(
            "a run that torchrun --max-restarts starts again is found again by its folder, and none is named; "
            "give --out"
        )
    if out is None:
        return "new"
    root = Path(out)
    # Machines that joined late count fewer restarts.
    if processes is None or not processes.any(restarts() > 0):
        by_first(processes, lambda: RunFolder.check_free(root))
        return "new"
    there = by_first(processes, lambda: RunFolder(root).has_state)
    return "with a state" if there else "without a state"


def require_shareable(run: Prepared, processes: TorchProcesses) -> None:
    """Raises UsageError where the run is one that several processes cannot share."""
    if is_fitted(run.config):
        raise UsageError(
            f"model {run.config.model} is fitted in one process, here are {processes.world_size}; start one"
        )
    shared_plan(run, processes)


def speaking(processes: TorchProcesses | None, *listeners: Callable[..., None]) -> tuple[Callable[..., None], ...]:
    """The listeners as they are in the process that speaks for all, deaf ones in the others."""
    if processes is None or processes.first:
        return listeners
    return (lambda *_: None,) * len(listeners)

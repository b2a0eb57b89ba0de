"""Several runs with the same settings, and what they came to together: cross-validation by folds, or several seeds.

A layer above `finetune`: each run is one that could have been started alone, in a folder of its own below the study's,
and ends in the same bytes. One run's AP is a draw; this says how wide they scatter.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from visionkit.api.finetune import finetune
from visionkit.api.study_plan import PLAN, StudyPlan, is_study, plan_study, write_json
from visionkit.api.study_result import StudyResult, StudyRun
from visionkit.api.training_run import FinetuneResult
from visionkit.counted import counted
from visionkit.engine.events import Event, Listener, Saved
from visionkit.engine.interruption import StopRequest
from visionkit.engine.numbered_folder import numbered_folder
from visionkit.engine.run_folder import RunFolder
from visionkit.errors import UsageError


def study(
    data: str | Path | None = None,
    *,
    folds: int | None = None,
    seeds: int | None = None,
    freeze: str | int | Sequence[str | int] = (),
    config: str | Path | None = None,
    set: Sequence[str] = (),
    out: str | Path | None = None,
    resume: str | Path | None = None,
    dry_run: bool = False,
    listen: Listener = lambda event: None,
    say: Callable[[str], None] = lambda line: None,
    on_skip: Callable[[str], None] = lambda line: None,
    stop: StopRequest | None = None,
    **flags: Any,
) -> StudyResult | None:
    """Train the same several times over, each time judged by other images or begun with another seed.

    Args:
        folds: k-fold cross-validation: the images of train and val are dealt out in so many parts with like shares of
            every class, by seed; each part is val once. A test split stays untouched.
        seeds: runs with so many seeds from `seed` on. Of data without a val split each seed holds out its own fifth,
            and how the runs scatter counts that too.
        out: folder of the study; by default a new one under runs/folds or runs/seeds. Its runs are in `fold-1`, ... or
            `seed-0`, ..., what they came to in `folds.json` or `seeds.json`.
        resume: folder of a study that was interrupted: runs that are done stay, the one that was going on goes on, the
            others begin. Each ends as if nothing had been interrupted.
        dry_run: check and print everything of the first run, train nothing.
        data, freeze, config, set, listen, say, on_skip, stop, flags: as for `visionkit.finetune`, the same for every
            run; `minutes` are those of each.

    Returns:
        The result, or None after a dry run.

    Raises:
        As `visionkit.finetune`; and UsageError where the runs do not make a study.
        InterruptedRunError: `stop` asked for it; the study goes on by `resume`.
    """
    if int(os.environ.get("WORLD_SIZE") or 1) > 1:
        raise UsageError("the runs of a study follow one another in one process, and here are several; start one")
    options = {"freeze": freeze, "config": config, "set": set, **flags}
    if resume is not None:
        options.pop("offline", None)  # read with the plan
        if any(value is not None and value != () for value in (data, folds, seeds, out, *options.values())):
            raise UsageError("--resume goes on with the study's own settings and takes no other; leave them out")
        plan = StudyPlan.read(Path(resume))
    else:
        plan = plan_study(data, folds, seeds, options)
        if out is not None and is_study(Path(out)):
            raise UsageError(f"{out} already holds several runs; use --resume {out} to go on, or another --out")
        if out is not None:
            RunFolder.check_free(Path(out))
    named: dict[str, None] = {}

    def skipped_once(line: str) -> None:
        # Every run leaves out the same.
        if line not in named:
            named[line] = None
            on_skip(line)

    told: dict[str, Any] = {"listen": listen, "say": say, "on_skip": skipped_once, "stop": stop}
    if dry_run:
        name, of_run = next(iter(plan.runs().items()))
        say(f"The first of {counted(plan.count, 'run')}, {name}:")
        finetune(plan.data, dry_run=True, **told, **of_run)
        return None
    return _all_runs(plan, _folder(plan, out, resume), told)


def _folder(plan: StudyPlan, out: str | Path | None, resume: str | Path | None) -> Path:
    """The folder of a study, with its plan."""
    if resume is not None:
        return Path(resume)
    if out is not None:
        root = Path(out)
        root.mkdir(parents=True, exist_ok=True)
    else:
        root = numbered_folder(Path("runs") / plan.kind, Path(plan.data or "sample").resolve().name)
    plan.write(root)
    return root


def _all_runs(plan: StudyPlan, root: Path, told: dict[str, Any]) -> StudyResult:
    """Make all runs that are not done yet, in order, and write down one by one what they come to."""
    summary = root / f"{plan.kind}.json"
    done = _runs_done(summary)
    listen, say = told["listen"], told["say"]

    def listen_and_name_the_study(event: Event) -> None:
        # Whoever is told what was saved is to go on with the study, not with one run of it.
        listen(Saved(root / PLAN) if isinstance(event, Saved) else event)

    for number, (name, options) in enumerate(plan.runs().items(), 1):
        if name in (run.name for run in done):
            continue
        say(f"Run {number} of {plan.count}: {root / name}")
        result = _one_run(plan.data, root / name, options, {**told, "listen": listen_and_name_the_study})
        done.append(StudyRun.of(name, result))
        write_json(summary, StudyResult(root, plan, tuple(done)).to_json())
    return StudyResult(root, plan, tuple(done))


def _one_run(data: str | None, folder: Path, options: dict[str, Any], told: dict[str, Any]) -> FinetuneResult:
    """The run in a folder, from its beginning or from where it was."""
    if RunFolder(folder).has_state:
        result = finetune(resume=folder, **told)
    else:
        if folder.exists():
            shutil.rmtree(folder)  # begun and killed before there was anything to go on with
        result = finetune(data, out=folder, **told, **options)
    assert result is not None
    return result


def _runs_done(summary: Path) -> list[StudyRun]:
    """What the file of a study says of the runs that are done; none where there is no such file yet."""
    if not summary.is_file():
        return []
    return [StudyRun(**run) for run in json.loads(summary.read_text(encoding="utf-8"))["runs"]]

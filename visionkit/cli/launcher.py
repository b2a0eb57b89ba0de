"""torchrun, for `--processes` and several devices: it ends as the process that failed first, which has said why itself.

`python -m visionkit.cli.launcher` takes the arguments that torchrun takes. That would put a table and a traceback
behind the one line, and end by 1 whatever the reason.
"""

from __future__ import annotations

import logging
import signal
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Start the processes and wait for all of them; the codes are those of the command line."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)
    arguments = parse_args(sys.argv[1:])
    try:
        run(arguments)
    except SignalException as asked:
        sys.exit(128 + asked.sigval)
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        if failure.exitcode < 0:
            sys.stderr.write(f"error: {_how_ended(rank, -failure.exitcode, arguments.nproc_per_node)}\n")
        sys.exit(max(1, failure.exitcode))
    sys.exit(0)


def _how_ended(rank: int, number: int, processes: str) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return (
        f"process {rank} of this run was ended from outside ({name}); if memory ran out, use fewer --processes, a "
        "smaller --batch or --cache off; go on by --resume with the run's folder, as before with "
        f"--processes {processes}"
    )


if __name__ == "__main__":
    main()

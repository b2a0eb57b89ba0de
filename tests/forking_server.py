"""Runs `visionkit` command lines in children forked from a process that has imported everything: 20 ms each, not 3 s.

A child is what a user's process is: its own process group, signal handlers, streams and exit code.

Reads orders from stdin, one JSON object a line: {"arguments", "folder", "environment", "stdout", "stderr"}; the line
`end` is the last. Answers each with two lines on stdout: {"pid": ...} when the child is there, {"code": ...} when it
has ended.
"""

import atexit
import gc
import json
import os
import sys
from importlib import import_module
from typing import Any

from visionkit.cli import main
from visionkit.cli.process import tune_process


def import_everything() -> None:
    """What the commands would import when they run."""
    tune_process()  # before torch comes in, as in the command itself
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    commands = [f"visionkit.api.{name}" for name in ("detect", "evaluate", "finetune", "layers")]
    # The first optimizer imports torch._dynamo, which takes longer than all that a short training does.
    others = ("albumentations", "matplotlib.backends.backend_agg", "matplotlib.figure", "torch._dynamo")
    for module in (*commands, *others):
        import_module(module)


def become(order: dict[str, Any]) -> None:
    """Turn this child into the process that was ordered."""
    os.setsid()
    os.chdir(order["folder"])
    os.environ.update(order["environment"])
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, order["stdout"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, order["stderr"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        os.dup2(os.open(path, flags, 0o644), number)
    sys.argv = ["visionkit", *order["arguments"]]


def serve() -> bool:
    """Fork a child for each order; True in a child, False in the server at the end of its orders."""
    for line in iter(sys.stdin.readline, "end\n"):
        if not line:  # whoever gave the orders is gone
            break
        pid = os.fork()
        if pid == 0:
            become(json.loads(line))
            return True
        print(json.dumps({"pid": pid}), flush=True)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)
    return False


def run() -> int | str | None:
    """The command line's exit code."""
    try:
        main()
    except SystemExit as end:
        return end.code
    return 0


if __name__ == "__main__":
    import_everything()
    # Forked processes share memory until they write to it, and the garbage collector would.
    gc.freeze()
    if serve():
        code = run()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        # Taking apart all that was imported would take a second.
        os._exit(code if isinstance(code, int) else 1)

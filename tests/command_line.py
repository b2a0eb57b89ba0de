"""`visionkit` as a user types it: a process with an exit code and two streams."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVER = Path(__file__).with_name("forking_server.py")


@dataclass(frozen=True)
class Finished:
    """A command that has ended; a negative code is the signal that killed it."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)

    @property
    def error(self) -> str:
        """The one line that an error is, without its `error: `."""
        lines = [line for line in self.stderr.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.stderr
        assert "Traceback" not in self.stderr
        return lines[0].removeprefix("error: ")


class CommandLine:
    """Starts commands, one at a time: `command_line("layers", "yolo").stdout`."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self._streams = [str(scratch / name) for name in ("stdout", "stderr")]
        # Of what is killed the temporary files stay: not among everybody's.
        environment = {**os.environ, "TMPDIR": str(scratch)}
        self._server = subprocess.Popen(
            [sys.executable, str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def __call__(self, *arguments: Any, folder: Path | None = None, **environment: str) -> Finished:
        """Run a command to its end, in `folder`."""
        self.start(*arguments, folder=folder, **environment)
        return self.wait()

    def start(self, *arguments: Any, folder: Path | None = None, **environment: str) -> int:
        """Start a command; its process id, which is its process group's too. `wait` for it before the next."""
        stdout, stderr = self._streams
        order = {
            "arguments": [str(argument) for argument in arguments],
            "folder": str(folder or self.scratch),
            "environment": environment,
            "stdout": stdout,
            "stderr": stderr,
        }
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        pid: int = self._answer()["pid"]
        return pid

    def wait(self) -> Finished:
        code = self._answer()["code"]
        return Finished(code, *(Path(stream).read_text() for stream in self._streams))

    def kill(self, pid: int) -> Finished:
        """SIGKILL for a command and the workers it started."""
        os.killpg(pid, signal.SIGKILL)
        return self.wait()

    def close(self) -> None:
        # Said in words: its stdin would end only when the last copy is closed, and what this process forked has one.
        assert self._server.stdin is not None
        self._server.stdin.write("end\n")
        self._server.stdin.flush()
        try:
            self._server.wait(timeout=60)
        finally:
            self._server.kill()

    def _answer(self) -> Any:
        assert self._server.stdout is not None
        return json.loads(self._server.stdout.readline())

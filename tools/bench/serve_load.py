"""`tools/bench serve`: one server, asked one by one, then by many at once, good and bad, and then told to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import cv2
import numpy as np
from contest import BenchError
from serve_clients import FORM, LEFT, Said, Target, ask, form, good_form, items_of, request

from visionkit.data.sample import CLASSES
from visionkit.data.sample_scene import draw_scene

SIDES = (320, 480, 640, 960, 1600)
PICTURES = 12
ALONE = 3
"""Requests one by one, with nobody else there, for each client of those that come together."""
DRAINED = 16
"""Requests under way when the server is told to end."""
UPLOAD_MEGABYTES, UPLOAD_SECONDS = 4, 3
READY_SECONDS = 120


@dataclass
class Load:
    """What was seen of a server.

    Args:
        alone, together: requests one by one, and of many clients at once.
        seconds: that many clients asked for.
        memory: (seconds since the start of the load, resident MB), once a second.
        drained: statuses of the requests that were under way at the end.
        exit_code: of the server; 143 where SIGTERM ended it.
    """

    alone: list[Said] = field(default_factory=list)
    together: list[Said] = field(default_factory=list)
    seconds: float = 0.0
    memory: list[tuple[float, float]] = field(default_factory=list)
    drained: list[int] = field(default_factory=list)
    exit_code: int | None = None
    health: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        good = [said.seconds for said in self.together if said.kind == "good" and said.status == 200]
        statuses: dict[str, Counter[int]] = {}
        for said in self.together:
            statuses.setdefault(said.kind, Counter())[said.status] += 1
        return {
            "requests": len(self.together),
            "seconds": round(self.seconds, 1),
            "answered_a_second": round(sum(said.status == 200 for said in self.together) / self.seconds, 1),
            "statuses": {kind: dict(sorted(counts.items())) for kind, counts in sorted(statuses.items())},
            "alone_ms": percentiles([said.seconds for said in self.alone]),
            "together_ms": percentiles(good),
            "wrong": [said.wrong for said in (*self.alone, *self.together) if said.wrong],
            "memory_mb": self.growth(),
            "mean_batch": round(self.health.get("answered", 0) / max(1, self.health.get("batches", 0)), 2),
            "drained": dict(Counter(self.drained)),
            "exit_code": self.exit_code,
        }

    def growth(self) -> dict[str, float] | None:
        """Resident MB at the start of the load, and its median in the third quarter and in the fourth; None where the
        system does not tell."""
        if len(self.memory) < 4:
            return None
        used = [megabytes for _, megabytes in self.memory]
        half, last = len(used) // 2, 3 * len(used) // 4
        parts = {"first": used[:1], "third_quarter": used[half:last], "fourth_quarter": used[last:]}
        return {when: round(float(np.median(part)), 1) for when, part in parts.items()}


def percentiles(seconds: Sequence[float]) -> dict[str, float] | None:
    """p50 and p99 in milliseconds."""
    if not seconds:
        return None
    p50, p99 = (1000 * float(np.percentile(seconds, q)) for q in (50, 99))
    return {"p50": round(p50, 1), "p99": round(p99, 1)}


def measure(weights: str, clients: int, seconds: float, threads: int, seed: int = 0) -> Load:
    """Start a server, ask it, and end it.

    Raises:
        BenchError: it does not start.
    """
    load = Load()
    with started(weights, threads) as (process, host, port):
        target = Target(host, port, pictures(), [], UPLOAD_MEGABYTES * 1_000_000, UPLOAD_SECONDS)
        expected = [items_of(target, number) for number in range(len(target.pictures))]
        target = replace(target, expected=expected)
        load.alone = [good_form(target, number % PICTURES) for number in range(ALONE * clients)]
        _ask_together(target, load, process.pid, clients, seconds, seed)
        with urlopen(f"http://{host}:{port}/healthz") as answer:
            load.health = json.load(answer)
        load.drained = _end(target, process)
        load.exit_code = process.wait(60)
    return load


@contextmanager
def started(weights: str, threads: int) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """A server of its own process at a free port."""
    command = [
        *(sys.executable, "-m", "visionkit", "serve", "--port", "0", "--json", "--weights", weights),
        *("--threads", str(threads), "--max-upload", str(UPLOAD_MEGABYTES), "--upload-timeout", str(UPLOAD_SECONDS)),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        if not line:
            words = process.stderr.read().strip().splitlines()
            raise BenchError(f"the server did not start: {words[-1] if words else 'it said nothing'}")
        address = urlsplit(json.loads(line)["url"])
        # Nobody reads on: a full pipe would stop it.
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield process, str(address.hostname), int(address.port or 0)
    finally:
        process.kill()
        process.wait()


def pictures() -> list[bytes]:
    """Rendered scenes of several sizes, as JPEG and PNG."""
    made = []
    for number in range(PICTURES):
        variant = ("a", "b")[number % 2]
        scene = draw_scene(np.random.default_rng([number]), CLASSES[variant], SIDES[number % len(SIDES)])  # type: ignore[index]
        suffix = ".png" if number % 7 == 0 else ".jpg"
        made.append(bytes(cv2.imencode(suffix, np.ascontiguousarray(scene.image[..., ::-1]))[1].tobytes()))
    return made


def _ask_together(target: Target, load: Load, pid: int, clients: int, seconds: float, seed: int) -> None:
    start = time.monotonic()

    def client(number: int) -> list[Said]:
        said = []
        while time.monotonic() - start < seconds:
            said.append(request(target, seed, number, len(said)))
        return said

    with ThreadPoolExecutor(clients) as pool:
        working = [pool.submit(client, number) for number in range(clients)]
        while not all(work.done() for work in working):
            used = resident_megabytes(pid)
            if used is not None and time.monotonic() - start < seconds:
                load.memory.append((time.monotonic() - start, used))
            time.sleep(min(1.0, seconds / 8))
        load.together = [said for work in working for said in work.result()]
    load.seconds = time.monotonic() - start


def _end(target: Target, process: subprocess.Popen[str]) -> list[int]:
    """Statuses of requests that are under way when the server is told to end: all must be answered."""
    numbers = range(DRAINED)
    before = _taken(target)
    with ThreadPoolExecutor(DRAINED) as pool:
        bodies = (form(target.pictures[number % PICTURES], target.conf) for number in numbers)
        answers = [pool.submit(ask, target, body, FORM) for body in bodies]
        while _taken(target) - before < DRAINED and not all(answer.done() for answer in answers):
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        return [answer.result()[0] for answer in answers]


def _taken(target: Target) -> int:
    """Pictures that the server has taken so far."""
    with urlopen(f"http://{target.host}:{target.port}/healthz") as answer:
        said = json.load(answer)
    return int(said["under_way"] + said["answered"])


def resident_megabytes(pid: int) -> float | None:
    """What a process holds in memory; None where the system does not tell it so."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return None
    return float(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)


def load_table(said: dict[str, Any], clients: int) -> str:
    """What `Load.to_json` says, for people."""
    alone, together, memory = said["alone_ms"], said["together_ms"], said["memory_mb"]
    lines = [
        f"{clients} clients, {said['seconds']} s: {said['requests']} requests, {said['answered_a_second']} pictures/s, "
        f"{said['mean_batch']} a batch",
        f"one by one   p50 {alone['p50']:8.1f} ms  p99 {alone['p99']:8.1f} ms",
    ]
    if together:
        lines.append(f"together     p50 {together['p50']:8.1f} ms  p99 {together['p99']:8.1f} ms")
    for kind, counts in said["statuses"].items():
        words = ", ".join(f"{'hung up' if status == LEFT else status} {count}x" for status, count in counts.items())
        lines.append(f"{kind:<13}{words}")
    if memory:
        lines.append("memory       " + ", ".join(f"{when.replace('_', ' ')} {mb} MB" for when, mb in memory.items()))
    drained = ", ".join(f"{status} {count}x" for status, count in said["drained"].items())
    lines.append(f"at SIGTERM   {drained}, exit code {said['exit_code']}")
    lines.append(f"wrong        {len(said['wrong'])}" + "".join(f"\n  {words}" for words in said["wrong"][:10]))
    return "\n".join(lines)

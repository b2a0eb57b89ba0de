"""How training would scale: measures one step and the all-reduce of its gradients, and estimates the rest from these.

    torchrun --nproc-per-node 2 tools/bench/scaling.py --backbone resnet50 --imgsz 640 --batch 8 --processes 2,4,8,16

Start it over as many processes, and over as many machines, as are there: what is measured between two processes of one
machine says nothing of the network between two machines. `--batch` is each process's share. docs/distributed.md tells
how the estimate is made.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from statistics import median

from visionkit.cli.process import tune_process

tune_process()  # as the command line does, before torch is imported

import torch
import torch.distributed as dist

from visionkit.build import build_model
from visionkit.classes import ClassTable
from visionkit.config import Recipe
from visionkit.engine.device import choose_device
from visionkit.engine.distributed import TorchProcesses, joined_processes
from visionkit.engine.settings import TrainSettings
from visionkit.engine.throughput import time_steps
from visionkit.engine.train import TrainingState
from visionkit.imaging.letterbox import Frame
from visionkit.types import Batch, Target

SMALL_SUMS = 4
"""All-reduces of a few numbers in each step: losses, what they are divided by, running statistics."""

WARM_UP = 3
"""Steps that `time_steps` does not count."""


@dataclass(frozen=True)
class Network:
    """What an all-reduce in a ring takes: Patarasuk and Yuan 2009, Bandwidth Optimal All-reduce Algorithms, section 3.

    Args:
        latency: seconds to send nothing to the next process.
        bandwidth: bytes a second to the next process.
    """

    latency: float
    bandwidth: float

    @classmethod
    def measured(cls, processes: int, small: float, large: float, size: int) -> Network:
        """From the seconds of an all-reduce of almost nothing and of one of `size` bytes, over so many processes.

        >>> Network.measured(processes=2, small=0.002, large=0.102, size=100_000_000)
        Network(latency=0.001, bandwidth=1000000000.0)
        """
        rounds = 2 * (processes - 1)
        return cls(small / rounds, rounds * size / processes / max(large - small, 1e-9))

    def seconds(self, processes: int, size: int) -> float:
        """Of an all-reduce of `size` bytes.

        >>> round(Network(0.001, 1e9).seconds(4, 100_000_000), 3)  # 6 rounds of 1 ms and 25 MB
        0.156
        """
        return 2 * (processes - 1) * (self.latency + size / processes / self.bandwidth)


def efficiency(step: float, network: Network, processes: int, size: int) -> float:
    """Images a second of so many processes, as a share of as many times those of one with the same share of images.

    Args:
        step: seconds of one process's step, alone.
        size: bytes of all gradients.

    >>> round(efficiency(0.5, Network(0.0, 1e9), 2, 100_000_000), 3)  # 0.5 s of 0.5 s + 0.1 s
    0.833
    """
    together = network.seconds(processes, size) + SMALL_SUMS * network.seconds(processes, 0)
    return step / (step + together)


def batch_of(count: int, size: int) -> Batch:
    """Random pixels with one object an image."""
    box = torch.tensor([[0.2, 0.2, 0.8, 0.8]]) * size
    target = Target(box, torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.bool))
    images = torch.randint(256, (count, 3, size, size), dtype=torch.uint8)
    return Batch(images, (target,) * count, (Frame(size, size, 1.0, 1.0, 0, 0),) * count, tuple(range(count)))


@dataclass(frozen=True)
class Same:
    """The same batch again and again."""

    batch: Batch
    batches_per_epoch: int = 1

    def start(self, epoch: int, batch: int) -> Iterator[Batch]:
        return repeat(self.batch)


def seconds_of(action: Callable[[], object], rounds: int, device: torch.device) -> float:
    """Of the median round, the first left out."""
    times = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return median(times[1:])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="yolo", help="architecture (%(default)s)")
    parser.add_argument("--backbone", default="csp-light", help="network that feeds it (%(default)s)")
    parser.add_argument("--imgsz", type=int, default=640, help="side of the input, px (%(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="images of one process's share (%(default)s)")
    parser.add_argument("--processes", default="2,4,8,16", help="numbers of them to estimate (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement (%(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse_args(arguments)
    with joined_processes() as processes:
        if processes is None:
            parser.error("one process has nothing to send; start it by torchrun --nproc-per-node 2 or more")
        report = measured(given, processes)
        if processes.first:
            print(report)


def measured(given: argparse.Namespace, processes: TorchProcesses) -> str:
    device = choose_device(given.device)
    recipe = Recipe.model_validate({"model": given.model, "backbone": given.backbone})
    model = build_model(recipe, ClassTable((1,), ("thing",))).to(device)
    settings = TrainSettings(batch=given.batch)
    batch = batch_of(given.batch, given.imgsz)
    state = TrainingState.begin(model, settings, 1)
    dist.barrier()
    step = time_steps(
        state,
        Same(batch),
        settings,
        device=device,
        available=WARM_UP + given.rounds,
        prefetched=0,
        seconds=math.inf,
    ).batch
    flat = torch.zeros(sum(p.numel() for p in model.parameters() if p.requires_grad), device=device)
    size = flat.numel() * flat.element_size()
    small = seconds_of(lambda: dist.all_reduce(flat[:1]), 4 * given.rounds, device)
    large = seconds_of(lambda: dist.all_reduce(flat), given.rounds, device)
    network = Network.measured(processes.world_size, small, large, size)
    rows = [
        {
            "processes": count,
            "efficiency": efficiency(step, network, count, size),
            "images_per_second": count * given.batch / step * efficiency(step, network, count, size),
        }
        for count in map(int, given.processes.split(","))
    ]
    if given.json:
        found = {"step": step, "all_reduce": large, "bytes": size, "latency": network.latency}
        return json.dumps({**found, "bandwidth": network.bandwidth, "estimates": rows})
    head = (
        f"{given.model}/{given.backbone}, {given.imgsz} px, {given.batch} images a process: a step takes "
        f"{1000 * step:.0f} ms, the all-reduce of {size / 1e6:.1f} MB between {processes.world_size} processes "
        f"{1000 * large:.1f} ms\n(latency {1e6 * network.latency:.0f} us, {network.bandwidth / 1e9:.2f} GB/s)\n"
    )
    lines = [f"{row['processes']:>9} {row['images_per_second']:>9.1f} {row['efficiency']:>11.3f}" for row in rows]
    return "\n".join([head, "processes  images/s  efficiency", *lines])


if __name__ == "__main__":
    main()

"""visionkit's contestant for `backbones`: a network beside torchvision's own, in turns step by step in one process.

A step is forward and backward of one batch of random pixels to the maps that our network returns; neither has a
classifier. Both have the same weights, and memory in channels_last, as our training has it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from statistics import median

from task import Task

from visionkit.cli.process import tune_process

tune_process()  # as the command line does, before torch is imported

import torch
import torchvision
from backbone_peers import PEERS
from torch import Tensor, nn

from visionkit.backbones.checkpoints import without_classifier
from visionkit.build import BACKBONES

WARM_UP = 2


def measure(task: Task, name: str) -> dict[str, float]:
    """Milliseconds of a step of each, and how many times theirs ours takes: medians over the steps."""
    if task.threads:
        torch.set_num_threads(task.threads)
    torch.manual_seed(task.seed)
    peer = PEERS[name]
    theirs = torchvision.models.get_model(peer.name, weights=None, **peer.options)
    ours = BACKBONES[name](**peer.ours)
    ours.load_state_dict(without_classifier(theirs.state_dict()))
    images = torch.randn(task.batch, 3, task.imgsz, task.imgsz)
    for network in (theirs, ours):
        network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = images.contiguous(memory_format=torch.channels_last)
    of_theirs, of_ours = [], []
    for _ in range(WARM_UP + task.steps):
        of_theirs.append(step(theirs, lambda: peer.forward(theirs, images)))
        of_ours.append(step(ours, lambda: ours(images)))
    ratios = [mine / other for mine, other in zip(of_ours, of_theirs, strict=True)]
    return {
        "milliseconds": 1000 * median(of_ours[WARM_UP:]),
        "torchvision_milliseconds": 1000 * median(of_theirs[WARM_UP:]),
        "times_torchvision": median(ratios[WARM_UP:]),
    }


def step(network: nn.Module, forward: Callable[[], Sequence[Tensor]]) -> float:
    """Seconds of forward and backward."""
    network.zero_grad(set_to_none=True)
    began = time.perf_counter()
    torch.stack([level_map.square().mean() for level_map in forward()]).sum().backward()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone", choices=PEERS)
    print(json.dumps(measure(Task.from_environment(), parser.parse_args().backbone)))


if __name__ == "__main__":
    main()

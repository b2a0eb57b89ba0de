"""Where the arithmetic happens, and in which precision."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import cv2
import torch

from visionkit.data.memory import processes_here
from visionkit.engine.distributed import local_rank
from visionkit.errors import UsageError

_NUMBER = "(0|[1-9][0-9]{0,2})"


def choose_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda`, `cuda:N` or `mps` as a device that is really there; of several, as `cuda:0,1` names them,
    or `auto` and `cuda` where torchrun started several processes here, the one for this process.

    Raises:
        UsageError: the name is none of these, there is no such device here, or several are named for one process.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return _of_this_process("cuda", [])
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if not re.fullmatch(rf"cpu|mps|cuda(:{_NUMBER}(,{_NUMBER})*)?", name):
        raise UsageError(f"device must be auto, cpu, cuda, cuda:N or mps, got {name!r}; use --device auto")
    kind, _, said = name.partition(":")
    numbers = [int(number) for number in said.split(",") if number]
    if kind == "cuda" and max(numbers, default=0) >= torch.cuda.device_count():
        raise UsageError(f"device {name!r} is not here, {torch.cuda.device_count()} CUDA devices are; use --device cpu")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UsageError("device 'mps' is not here; use --device cpu")
    return _of_this_process(name, numbers) if kind == "cuda" else torch.device(name)


def _of_this_process(name: str, numbers: Sequence[int]) -> torch.device:
    """Of the CUDA devices with these numbers, or of all, the one for this process of those that torchrun started here.

    Raises:
        UsageError: there are more devices than processes, or the other way round.
    """
    here = processes_here()
    if here == 1 and len(numbers) < 2:
        return torch.device("cuda", *numbers)
    numbers = numbers or range(torch.cuda.device_count())
    if len(numbers) < here or (here == 1 and "LOCAL_RANK" not in os.environ):
        raise UsageError(
            f"device {name!r} is {len(numbers)} device{'s' * (len(numbers) != 1)}, each needs a process of its own and "
            f"here {'is 1' if here == 1 else f'are {here}'}; start {len(numbers)} by torchrun --nproc-per-node "
            f"{len(numbers)} -m visionkit finetune"
        )
    return torch.device("cuda", numbers[local_rank()])


def own_threads(asked: int, device: torch.device, here: int) -> int:
    """CPU threads for this process, 0 for torch's own choice: its share of those that all are to have, or, where it
    calculates on the CPU, of the cores.

    Args:
        asked: threads of all processes together; 0 where no one said.
        here: processes on this machine.

    >>> own_threads(8, torch.device("cuda", 0), here=2)
    4
    """
    if here == 1:
        return asked
    if not asked and device.type != "cpu":
        return 0
    return max(1, (asked or os.cpu_count() or 1) // here)


def use_threads(count: int) -> None:
    """Let torch's and OpenCV's work in this process run on so many CPU threads; 0 leaves each its own choice."""
    if count:
        torch.set_num_threads(count)
        cv2.setNumThreads(count)


def has_bf16(device: torch.device) -> bool:
    """Whether bf16 arithmetic is done in hardware, and so is worth having."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Without oneDNN the operator that answers does not even exist.
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    # oneDNN says yes to every AVX-512 machine, but without these instructions it emulates, slower than fp32.
    return torch.cpu._is_avx512_bf16_supported() or platform.machine() in {"aarch64", "arm64"}


def precision(device: torch.device, amp: bool) -> AbstractContextManager[None]:
    """bf16 autocast where asked for and supported, else nothing."""
    if amp and has_bf16(device):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()

"""Where the arithmetic happens, and in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from visionkit.errors import UsageError


def choose_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda`, `cuda:N` or `mps` as a device that is really there.

    Raises:
        UsageError: the name is none of these, or there is no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in {"cpu", "cuda", "mps"} or (number and not (kind == "cuda" and number.isdecimal())):
        raise UsageError(f"device must be auto, cpu, cuda, cuda:N or mps, got {name!r}")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise UsageError(f"device {name!r} is not here, {torch.cuda.device_count()} CUDA devices are; use --device cpu")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UsageError("device 'mps' is not here; use --device cpu")
    return torch.device(name)


def has_bf16(device: torch.device) -> bool:
    """Whether bf16 arithmetic is done in hardware, and so is worth having."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def precision(device: torch.device, amp: bool) -> AbstractContextManager[None]:
    """bf16 autocast where asked for and supported, else nothing."""
    if amp and has_bf16(device):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()

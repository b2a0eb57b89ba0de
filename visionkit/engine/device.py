"""Where the arithmetic happens, and in which precision."""

from __future__ import annotations

import platform
import re
from contextlib import AbstractContextManager, nullcontext

import cv2
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
    if not re.fullmatch(r"cpu|mps|cuda(:(0|[1-9][0-9]{0,2}))?", name):
        raise UsageError(f"device must be auto, cpu, cuda, cuda:N or mps, got {name!r}; use --device auto")
    kind, _, number = name.partition(":")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise UsageError(f"device {name!r} is not here, {torch.cuda.device_count()} CUDA devices are; use --device cpu")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UsageError("device 'mps' is not here; use --device cpu")
    return torch.device(name)


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

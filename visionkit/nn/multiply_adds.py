"""Multiply-adds: how often a forward pass multiplies two numbers and adds the product to a sum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from visionkit.nn.upsample import BilinearUpsample

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, BilinearUpsample)
COUNTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, *TRANSPOSED)
NOT_COUNTED = "biases, norms, activations, poolings, interpolation, sums and products of maps"


@contextmanager
def counting_multiply_adds(model: nn.Module) -> Iterator[Counter[nn.Module]]:
    """Count those of each convolution, transposed convolution and fully connected layer that runs inside the block.

    Half of what is often called FLOPs. `NOT_COUNTED` says what else a network does; together it is little. What a
    forward pass does without a module of these types is not seen.

    Yields:
        by module, over all of its calls and all images of the batch.
    """
    counts: Counter[nn.Module] = Counter()

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        counts[module] += multiply_adds(module, inputs[0], output)

    handles = [module.register_forward_hook(count) for module in model.modules() if isinstance(module, COUNTED)]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def multiply_adds(module: nn.Module, x: Tensor, y: Tensor) -> int:
    """Of one call that made y of x, by a module of one of the types `COUNTED`.

    >>> import torch
    >>> conv = nn.Conv2d(3, 16, 5, padding=2)
    >>> x = torch.zeros(1, 3, 8, 8)
    >>> multiply_adds(conv, x, conv(x))  # 16 * 8 * 8 results of 3 * 5 * 5 products
    76800
    """
    weight: Any = module.weight
    # A transposed convolution spreads each number of its input over out_channels / groups * kernel results; the others
    # gather each number of their output from in_channels / groups * kernel. Both are elements of weight[0].
    each = x if isinstance(module, TRANSPOSED) else y
    return each.numel() * int(weight[0].numel())

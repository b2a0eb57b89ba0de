"""Receptive fields: which pixels of the image a cell of a feature map can see.

By arithmetic over the operations of one forward pass, kernel, stride, padding and dilation, as Araujo et al. 2019,
Computing Receptive Fields of Convolutional Neural Networks, section 3. Not by gradients: those would have to be taken
unit by unit, on an image larger than the field and a copy of the network that lets every path through; for ResNet-50
that takes two seconds, and following its operations no more than the forward pass itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from math import gcd, lcm
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from visionkit.nn.activations import Maxout
from visionkit.nn.norms import SwitchableNorm2d

aten = torch.ops.aten

ROWS = 2
"""The axis of rows in images and maps [B, C, H, W]."""


@dataclass(frozen=True, slots=True)
class Field:
    """Which rows of the image each row of a map sees; columns are alike where kernels are square.

    Row i sees the pixels from `first[i % q] + i // q * jump` up to, not including, `end[i % q] + i // q * jump`. The
    period q is the length of both: 1, but where a coarse map was enlarged neighbouring rows differ. Padding is seen
    like pixels, so the size of the image does not matter.

    Args:
        jump: pixels from a row to the q-th after it.
        axis: of rows in the tensor.
        whole: whether each cell sees all of the map besides, as by squeeze and excitation.
    """

    first: tuple[int, ...] = (0,)
    end: tuple[int, ...] = (1,)
    jump: int = 1
    axis: int = ROWS
    whole: bool = False

    @property
    def pixels(self) -> int:
        """Height of what a cell sees, the largest where cells differ."""
        return max(end - first for first, end in zip(self.first, self.end, strict=True))

    @property
    def stride(self) -> float:
        """Pixels from a row to the next; a whole number is an int."""
        period = len(self.first)
        return self.jump / period if self.jump % period else self.jump // period

    def read(self, period: int, jump: int, rows: Callable[[int], tuple[int, int]]) -> Field:
        """The field of a map whose row i reads the rows from `rows(i)[0]` to `rows(i)[1]` of this one."""
        read = [rows(i) for i in range(period)]
        return replace(
            self,
            first=tuple(_at(self.first, row, self.jump) for row, _ in read),
            end=tuple(_at(self.end, row, self.jump) for _, row in read),
            jump=jump,
        )

    def through_window(self, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> Field:
        """Through a convolution or a pooling.

        >>> Field().through_window(7, 2, 3).through_window(3, 2, 1).pixels  # 7, and two steps of 2 more
        11
        """
        period = len(self.first) // gcd(len(self.first), stride)
        jump = self.jump * stride * period // len(self.first)
        reach = (kernel - 1) * dilation
        return self.read(period, jump, lambda i: (i * stride - padding, i * stride - padding + reach))

    def through_transposed(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> Field:
        """Through a transposed convolution: row j is added to the rows j * stride - padding + k * dilation for each k
        in 0 .. kernel - 1."""
        reach = (kernel - 1) * dilation
        return self.read(
            len(self.first) * stride, self.jump, lambda i: (-((reach - i - padding) // stride), (i + padding) // stride)
        )

    def through_nearest(self, factor: int) -> Field:
        """Through enlarging where each row is repeated."""
        return self.read(len(self.first) * factor, self.jump, lambda i: (i // factor, i // factor))

    def through_bilinear(self, factor: int) -> Field:
        """Through enlarging where row i lies at (i + 1/2) / factor - 1/2, between two rows or upon one."""

        def rows(i: int) -> tuple[int, int]:
            place = 2 * i + 1 - factor  # in parts of 2 * factor
            return place // (2 * factor), -(-place // (2 * factor))

        return self.read(len(self.first) * factor, self.jump, rows)

    def joined(self, other: Field) -> Field:
        """Of a map made of two, as by adding or concatenating: row by row whatever either sees."""
        period = lcm(len(self.first), len(other.first))
        same = self.read(period, self.jump * period // len(self.first), lambda i: (i, i))
        theirs = other.read(period, same.jump, lambda i: (i, i))
        return replace(
            same,
            first=tuple(map(min, same.first, theirs.first)),
            end=tuple(map(max, same.end, theirs.end)),
            whole=self.whole or other.whole,
        )


def _at(edges: Sequence[int], row: int, jump: int) -> int:
    return edges[row % len(edges)] + row // len(edges) * jump


Seen = Field | Literal["global", "unknown"]
"""A field; or all of the map in one, whatever its size; or nothing that can be said beforehand, as of a region."""


@contextmanager
def tracing(model: nn.Module, images: Tensor) -> Iterator[Callable[[Tensor], Seen]]:
    """Follow the fields of whatever is computed from images [B, 3, H, W] inside the block.

    Statistics that a normalisation takes over a map are left out, as is usual: what remains is what a cell can tell
    apart, not how it is scaled.

    Yields:
        a function that tells what the cells of a tensor see; `"unknown"` where it does not come from the images.
    """
    mode = _Tracing(images)
    kept = [m for m in model.modules() if isinstance(m, (nn.Linear, Maxout, SwitchableNorm2d))]
    handles = [module.register_forward_hook(mode.keep) for module in kept]
    try:
        with mode:
            yield mode.seen
    finally:
        for handle in handles:
            handle.remove()


class _Tracing(TorchDispatchMode):
    """Writes down the field of each tensor as torch makes it."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: nothing is compiled here, and to keep its compiler away torch would import it first, for a second."""
        return False

    def __init__(self, images: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.fields = WeakTensorKeyDictionary()
        self.fields[images] = Field()

    def seen(self, tensor: Tensor) -> Seen:
        found: Seen = self.fields.get(tensor, "unknown")
        return found

    def keep(self, _module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Forward hook of what takes each pixel by itself, but which torch computes in another shape or by averages."""
        if inputs[0] in self.fields:
            self.fields[output] = self.fields[inputs[0]]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor) and t in self.fields]
        if tensors:
            operands = [(tensor, self.fields[tensor]) for tensor in tensors]
            for output in tree_leaves(result):
                if isinstance(output, Tensor):
                    self.fields[output] = _after(func.overloadpacket, args, operands, output)
        return result


def _after(packet: Any, args: Sequence[Any], operands: Sequence[tuple[Tensor, Seen]], output: Tensor) -> Seen:
    """What the cells of an operation's result see.

    Args:
        operands: the tensors among `args` that come from the images.
    """
    tensor, first = operands[0]
    if packet in RULES and isinstance(first, Field):
        return RULES[packet](first, tensor, args, output)
    # Anything else takes each cell by itself, if its rows are still there: norms, activations, sums, concatenations.
    maps = [(t, seen) for t, seen in operands if isinstance(seen, Field)]
    whole = any(seen == "global" for _, seen in operands) or any(field.whole for _, field in maps)
    kept = (
        all(output.ndim == t.ndim == 4 and output.shape[field.axis] == t.shape[field.axis] for t, field in maps)
        and len({(field.axis, field.stride) for _, field in maps}) == 1
    )
    if not kept or any(seen == "unknown" for _, seen in operands):
        return "global" if whole else "unknown"
    return replace(reduce(Field.joined, (field for _, field in maps)), whole=whole)


# Operations that look beyond a cell -----------------------------------------------------------------------------------


def _convolution(field: Field, tensor: Tensor, args: Sequence[Any], output: Tensor) -> Seen:
    _, weight, _, stride, padding, dilation, transposed, *_ = args
    through = field.through_transposed if transposed else field.through_window
    return through(weight.shape[ROWS], stride[0], padding[0], dilation[0])


def _max_pooling(field: Field, tensor: Tensor, args: Sequence[Any], output: Tensor) -> Seen:
    kernel, stride, padding, dilation = _rows_of(args, (None, [], 0, 1))
    return field.through_window(kernel, stride or kernel, padding, dilation)


def _average_pooling(field: Field, tensor: Tensor, args: Sequence[Any], output: Tensor) -> Seen:
    kernel, stride, padding = _rows_of(args, (None, [], 0))
    return field.through_window(kernel, stride or kernel, padding)


def _rows_of(args: Sequence[Any], defaults: Sequence[Any]) -> list[Any]:
    """Arguments behind the first, each a number for both axes or one an axis, or none: what each is for rows."""
    given = [*args[1 : 1 + len(defaults)], *defaults[len(args) - 1 :]]
    return [(value or [None])[0] if isinstance(value, (list, tuple)) else value for value in given]


def _nearest(field: Field, tensor: Tensor, args: Sequence[Any], output: Tensor) -> Seen:
    factor, rest = divmod(output.shape[ROWS], tensor.shape[ROWS])
    return "unknown" if rest else field.through_nearest(factor)


def _bilinear(field: Field, tensor: Tensor, args: Sequence[Any], output: Tensor) -> Seen:
    factor, rest = divmod(output.shape[ROWS], tensor.shape[ROWS])
    align_corners = args[2]
    return "unknown" if rest or align_corners else field.through_bilinear(factor)


def _reduction(field: Field, tensor: Tensor, args: Sequence[Any], output: Tensor) -> Seen:
    axes = args[1] if len(args) > 1 and args[1] else range(tensor.ndim)
    over_rows = field.axis in [axis % tensor.ndim for axis in axes]
    return "global" if over_rows else field if output.ndim == tensor.ndim else "unknown"


def _whole(field: Field, tensor: Tensor, args: Sequence[Any], output: Tensor) -> Seen:
    return "global"


def _slice(field: Field, tensor: Tensor, args: Sequence[Any], output: Tensor) -> Seen:
    dim = args[1] if len(args) > 1 else 0
    start = (args[2] if len(args) > 2 else None) or 0
    step = args[4] if len(args) > 4 else 1
    if dim % tensor.ndim != field.axis:
        return field
    return field.through_window(1, step, -max(0, start + tensor.shape[dim] if start < 0 else start))


def _padding(field: Field, tensor: Tensor, args: Sequence[Any], output: Tensor) -> Seen:
    # Pairs of before and behind, the last axis first, as far as any is padded.
    before = [*args[1][::2], *[0] * tensor.ndim]
    return field.through_window(1, padding=before[tensor.ndim - 1 - field.axis])


def _permutation(field: Field, tensor: Tensor, args: Sequence[Any], output: Tensor) -> Seen:
    return replace(field, axis=[axis % tensor.ndim for axis in args[1]].index(field.axis))


def _transposition(field: Field, tensor: Tensor, args: Sequence[Any], output: Tensor) -> Seen:
    one, other = (axis % tensor.ndim for axis in args[1:3])
    return replace(field, axis={one: other, other: one}.get(field.axis, field.axis))


RULES: dict[Any, Callable[[Field, Tensor, Sequence[Any], Tensor], Seen]] = {
    aten.convolution: _convolution,
    aten.max_pool2d_with_indices: _max_pooling,
    aten.avg_pool2d: _average_pooling,
    aten.upsample_nearest2d: _nearest,
    aten.upsample_bilinear2d: _bilinear,
    aten.mean: _reduction,
    aten.sum: _reduction,
    aten.amax: _reduction,
    aten._adaptive_avg_pool2d: _whole,
    aten.adaptive_max_pool2d: _whole,
    aten.slice: _slice,
    aten.constant_pad_nd: _padding,
    aten.replication_pad2d: _padding,
    aten.reflection_pad2d: _padding,
    aten.permute: _permutation,
    aten.transpose: _transposition,
}

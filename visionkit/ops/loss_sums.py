"""Sums of losses as users write them: `cross-entropy + 0.5*lovasz`."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from visionkit.errors import ConfigError


def weighted_names(said: str, losses: Collection[str], setting: str) -> Mapping[str, float]:
    """The names of a sum of losses, each with its factor.

    Args:
        losses: the names that there are.
        setting: that said it, for the error.

    Raises:
        ConfigError: not these names, each at most once, joined by `+`, with factors above 0.

    >>> weighted_names("cross-entropy + 0.5*lovasz", ("cross-entropy", "lovasz"), "semantic_loss")
    {'cross-entropy': 1.0, 'lovasz': 0.5}
    """
    terms: dict[str, float] = {}
    for term in said.split("+"):
        match = re.fullmatch(r"\s*(?:([0-9]*\.?[0-9]+)\s*\*\s*)?([a-z-]+)\s*", term)
        factor = float(match[1] or 1) if match else 0.0
        if match is None or match[2] not in losses or match[2] in terms or factor <= 0:
            first, *_, last = losses
            raise ConfigError(
                f"{setting} must be a sum of {', '.join(losses)}, each at most once, got {said!r}; "
                f"for example {first} + 0.5*{last}"
            )
        terms[match[2]] = factor
    return terms

"""How much a server takes on: what one request may be, and what all of them together may hold."""

from __future__ import annotations

from dataclasses import dataclass, fields

from visionkit.errors import UsageError


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of everything that strangers can make large, long or many.

    Memory that requests take is at most about `held_bytes` + 3 bytes of each of `decoded_pixels`, besides the model's;
    and while a progressive JPEG is decoded, one at a time, about 6 bytes of each of its pixels.

    Args:
        upload_bytes: most bytes of a request's body.
        held_bytes: most bytes of the bodies of all requests that are not answered yet.
        pixels: most pixels of a picture; its header tells them before anything is decoded.
        decoded_pixels: most pixels of all decoded pictures together; a single picture may always be decoded.
        queue: most pictures that wait to be decoded; more are refused.
        batch: most pictures that the model is handed at once.
        gather_seconds: how long the model waits for pictures that are on their way to it.
        upload_seconds: how long a request may take to arrive.
        answer_seconds: how long an arrived picture may take to be answered, waiting included.

    Raises:
        UsageError: one of them is not above 0.
    """

    upload_bytes: int = 20_000_000
    held_bytes: int = 256_000_000
    pixels: int = 50_000_000
    decoded_pixels: int = 100_000_000
    queue: int = 64
    batch: int = 8
    gather_seconds: float = 0.004
    upload_seconds: float = 30.0
    answer_seconds: float = 60.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if not value > 0:
                raise UsageError(f"{each.name} of a server must be above 0, got {value}; choose a larger value")


USUAL = Limits()

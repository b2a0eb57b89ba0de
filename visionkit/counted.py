"""A number and what it counts, as people write it."""

from __future__ import annotations


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 image`, `2 images`.

    Args:
        one: what a single one is called.
        many: what several are called, where an `s` behind it is not enough.

    >>> counted(1, "image"), counted(0, "image"), counted(2, "class", "classes")
    ('1 image', '0 images', '2 classes')
    """
    return f"{number} {one if number == 1 else many or f'{one}s'}"

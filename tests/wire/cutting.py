"""Cutting octets into pieces, for properties that must hold in any cutting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def cut(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    """Cut ``data`` into pieces of these sizes, again and again until it is used up."""
    at = index = 0
    while at < len(data):
        size = sizes[index % len(sizes)]
        yield data[at : at + size]
        at += size
        index += 1

"""Finding in a message's buffer, at the speed of C whatever the buffer is."""

from __future__ import annotations

from mmap import mmap

Buffer = bytes | mmap

_FIRST_WINDOW = 4 * 1024
_LAST_WINDOW = 1024 * 1024


def find(buffer: Buffer, needle: bytes, start: int, end: int) -> int:
    """Return the offset of the first ``needle`` within ``buffer[start:end]``, or -1.

    A map's own ``find`` compares octet by octet; here it is read in windows that grow with
    the distance, so that the work is in proportion to it and ``bytes.find`` does the rest.
    """
    if isinstance(buffer, bytes):
        return buffer.find(needle, start, end)
    window = _FIRST_WINDOW
    overlap = len(needle) - 1
    while start < end:
        stop = min(end, start + window + overlap)
        hit = buffer[start:stop].find(needle)
        if hit >= 0:
            return start + hit
        start += window
        window = min(window * 2, _LAST_WINDOW)
    return -1

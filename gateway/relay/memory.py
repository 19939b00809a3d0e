"""Settings of the process that suit a program which moves large buffers and lives for long."""

from __future__ import annotations

import ctypes
import gc

#: glibc's mallopt(3) parameters.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def settle_memory() -> None:
    """Have buffers of up to 4 MiB taken from the heap, and what was loaded at the start left alone.

    Read buffers lie above malloc's first threshold: each would be mapped, zeroed by the kernel
    and unmapped again.  Where the C library is another one nothing is changed.
    """
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - only glibc has it
        library.mallopt(_M_MMAP_THRESHOLD, 4 << 20)
        library.mallopt(_M_TRIM_THRESHOLD, 32 << 20)
    except (AttributeError, OSError):
        pass
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)

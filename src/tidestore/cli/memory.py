"""Keep a long-lived process small: large blocks go back to the system when they are freed."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from typing import Final

# glibc's malloc.h: M_MMAP_THRESHOLD and M_ARENA_MAX.
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8
# A part of an upload is many times this; whatever is smaller is quick to get again from the heap.
_LARGE_BYTES: Final = 2 * 1024 * 1024
# Heaps for all threads together. By default there may be eight per core, and what each has freed is
# of no use to the others.
_ARENAS: Final = 2


def return_large_blocks() -> None:
    """Have glibc map each large block by itself, so that freeing it really frees it.

    By default glibc learns from the first freed part of an upload to keep the next ones in its
    heaps, one per thread, where they leave holes: 60 MB more for the same object. Elsewhere
    nothing is changed.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):  # another C library
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
        library.mallopt(_ARENA_MAX, _ARENAS)

"""A long-lived process: large blocks go back to the system, garbage is looked for less often."""

from __future__ import annotations

import contextlib
import ctypes
import gc
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
# Objects made between two looks for cycles. 700, as Python has it, is a look for every two or three
# objects of ours that pass; what piles up until 20,000 is a few MB.
_YOUNG_OBJECTS: Final = 20_000


def collect_less_often() -> None:
    """Look for cyclic garbage less often, and never again among what was imported."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, *gc.get_threshold()[1:])


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

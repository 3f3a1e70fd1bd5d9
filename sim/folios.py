# SPDX-License-Identifier: GPL-2.0-only
"""Folios, and runs of neighbours that are alike: [first page, end page), walked as one."""

import numpy as np

from sim.jit import jit
from sim.state import ALL_FLAGS, ORDER_SHIFT


@jit
def folio_order(folio, memory):
    """Return the order of the folio that a page is in."""
    return memory.folio_flags[folio] >> ORDER_SHIFT


@jit
def nr_folios(folio, end, memory):
    """Return how many folios of the same order a run has, `folio` first."""
    return (end - folio) >> folio_order(folio, memory)


@jit
def page_folio(page, memory):
    """Return the first page of a page's folio, which is aligned to its size."""
    return page - (page & ((1 << folio_order(page, memory)) - 1))


@jit
def all_equal(array, start, end, step):
    # A loop without an early end, which compiles to a few wide comparisons.
    differ = 0
    first = array[start]
    for i in range(np.uint64(start), np.uint64(end), np.uint64(step)):
        differ |= array[i] ^ first
    return differ == 0


@jit
def end_of_equal(array, start, end, step):
    # Where a run of equal entries, one every `step`, ends: most often with all of them, or half.
    if all_equal(array, start, end, step):
        return end
    first = array[start]
    half = ((end - start) // step >> 1) * step
    if half > 0 and all_equal(array, start, start + half, step):
        start += half
    while array[start] == first:
        start += step
    return start


@jit
def end_of_same_flags(folio, end, memory):
    """Return the end of a run of neighbours, `folio` first, that have the same flags.

    They are of one order, which every page's entry has above its flags.
    """
    return end_of_equal(memory.folio_flags, folio, end, 1 << folio_order(folio, memory))


@jit
def set_each(array, start, end, step, value):
    # Gives every entry in a run the same value, one every `step`.
    for i in range(np.uint64(start), np.uint64(end), np.uint64(step)):
        array[i] = value


@jit
def set_flags(folio, end, nr_pages, flags, memory):
    # Gives a run of folios the same flags; the order above them stays.
    order = memory.folio_flags[folio] & (0xFFFF ^ ALL_FLAGS)
    set_each(memory.folio_flags, folio, end, nr_pages, order | flags)


@jit
def add_run(folios, nr, folio, end):
    # Appends to a list of runs, where it may continue the last one; returns its new length.
    if nr > 0 and folios[nr - 1, 1] == folio:
        folios[nr - 1, 1] = end
        return nr
    folios[nr, 0] = folio
    folios[nr, 1] = end
    return nr + 1

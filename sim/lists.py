# SPDX-License-Identifier: GPL-2.0-only
"""LRU lists: rings of extents, oldest folio first."""

import numpy as np

from sim.jit import jit
from sim.state import NR_EXTENTS, NR_PAGES, OLDEST


@jit
def wrap(slot, capacity):
    return slot - capacity if slot >= capacity else slot


@jit
def list_add(lru, first, end):
    # Adds the folios of the pages [first, end) at the newest end, where they often continue an
    # extent.
    oldest, nr = lru.state[OLDEST], lru.state[NR_EXTENTS]
    capacity = len(lru.extents)
    lru.state[NR_PAGES] += end - first
    if nr > 0:
        newest = wrap(oldest + nr - 1, capacity)
        if lru.extents[newest, 1] == first:
            lru.extents[newest, 1] = end
            return
    slot = wrap(oldest + nr, capacity)
    lru.extents[slot, 0] = first
    lru.extents[slot, 1] = end
    lru.state[NR_EXTENTS] = nr + 1


@jit
def oldest_extent(lru):
    # The two ends of a list's oldest extent, if it has one.
    oldest = lru.state[OLDEST]
    # One integer type throughout: numba would compile the whole walk again for another.
    return np.int64(lru.extents[oldest, 0]), np.int64(lru.extents[oldest, 1])


@jit
def take_oldest(lru, most):
    # Takes pages off a list that is not empty, at most that many and of one extent; returns their
    # two ends.
    oldest = lru.state[OLDEST]
    first, end = oldest_extent(lru)
    if end - first <= most:
        lru.state[OLDEST] = wrap(oldest + 1, len(lru.extents))
        lru.state[NR_EXTENTS] -= 1
    else:
        end = first + most
        lru.extents[oldest, 0] = end
    lru.state[NR_PAGES] -= end - first
    return first, end


@jit
def list_size(lru):
    return lru.state[NR_PAGES]

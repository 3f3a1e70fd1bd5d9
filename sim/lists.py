# SPDX-License-Identifier: GPL-2.0-only
"""LRU lists: rings of extents, oldest folio first."""

from sim.jit import jit
from sim.state import NR_EXTENTS, NR_PAGES, OLDEST


@jit
def wrap(slot, capacity):
    return slot - capacity if slot >= capacity else slot


@jit
def list_add(lru, folio, end, nr_pages):
    # Adds the run of folios [folio, end) at the newest end, where it often continues an extent.
    oldest, nr = lru.state[OLDEST], lru.state[NR_EXTENTS]
    capacity = len(lru.extents)
    if nr > 0:
        newest = wrap(oldest + nr - 1, capacity)
        if lru.extents[newest, 1] == folio:
            lru.extents[newest, 1] = end
            lru.state[NR_PAGES] += (end - folio) * nr_pages
            return
    slot = wrap(oldest + nr, capacity)
    lru.extents[slot, 0] = folio
    lru.extents[slot, 1] = end
    lru.state[NR_EXTENTS] = nr + 1
    lru.state[NR_PAGES] += (end - folio) * nr_pages


@jit
def take_oldest(lru, most, nr_pages):
    # Takes a run of at most that many folios off a list that is not empty; returns its two ends.
    oldest = lru.state[OLDEST]
    folio, end = lru.extents[oldest, 0], lru.extents[oldest, 1]
    if end - folio <= most:
        lru.state[OLDEST] = wrap(oldest + 1, len(lru.extents))
        lru.state[NR_EXTENTS] -= 1
    else:
        end = folio + most
        lru.extents[oldest, 0] = end
    lru.state[NR_PAGES] -= (end - folio) * nr_pages
    return folio, end


@jit
def list_size(lru):
    return lru.state[NR_PAGES]

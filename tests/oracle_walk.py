# SPDX-License-Identifier: GPL-2.0-only
"""The oracle's page_vma_mapped_walk(): the cursor over the entries of one folio in one VMA."""


class PageVmaMappedWalk:
    """Either at nothing yet, or at a leaf (`pmd` without `place`), or at the entry in `place`."""

    def __init__(self, tables, vma, folio, sync):
        self.tables, self.vma, self.folio, self.sync = tables, vma, folio, sync
        # As vma_address() and vma_address_end() have it.
        self.page = max(folio.first, vma.start)
        self.end = min(folio.end, vma.end) if folio.large else self.page + 1
        self.pmd = False
        self.place = None
        self.locked = False
        self.crossed_table = False

    @property
    def at_leaf(self):
        return self.pmd and self.place is None

    def restart(self):
        self.pmd, self.place, self.locked = False, None, False

    def skip(self, nr):
        """Steps over the rest of a batch."""
        self.page += nr - 1
        self.place += nr - 1

    def find(self):
        self.tables.hit("page_vma_mapped_walk")
        if self.at_leaf:
            return False
        found = self._next_pte() if self.place is not None else self._start()
        while found is None:
            found = self._start()
        return found

    def _start(self):
        if self.page >= self.end:
            return False
        self.pmd = True
        if self.vma.table(self.page) in self.tables.leaves:
            self.place = None
            return True
        # From here on it is map_pte().
        self.place = self.vma.place(self.page)
        if self.sync:
            self.locked = True
        else:
            entry = self.tables.ptep_get_lockless(self.place)
            if entry is None or not entry.present:
                return self._next_pte()
            self.locked = True
        return True if self._check_pte() else self._next_pte()

    def _next_pte(self):
        # Returns None where the walk has to start again, in another page table.
        while True:
            self.page += 1
            if self.page >= self.end:
                return False
            if self.vma.starts_table(self.page):
                self.restart()
                self.crossed_table = True
                return None
            self.place += 1
            get = self.tables.ptep_get if self.locked else self.tables.ptep_get_lockless
            if get(self.place) is None:
                continue
            self.locked = True
            if self._check_pte():
                return True

    def _check_pte(self):
        entry = self.tables.ptep_get(self.place)
        if entry is None or not entry.present:
            return False
        return self.folio.first <= entry.page < self.folio.end

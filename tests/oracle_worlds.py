# SPDX-License-Identifier: GPL-2.0-only
"""Random worlds that the oracle and `sim` are compared in, and what their layout must look like."""

from dataclasses import replace

from hypothesis import strategies as st

import sim
from sim.layout import first_pages, lay_out

MOST_PAGES = 240
# A PMD leaf is one entry, however many pages it maps: but its pages are counted one by one.
MOST_LARGE_FOLIOS = 2
LARGE_ORDER = 7
LARGEST_ORDERS = {"arm64": 9, "x86_64": 9, "arm64-16k": 8, "arm64-64k": 7}
PTE_SHARES = ("young", "dirty", "writable", "soft_dirty", "uffd_wp")
# The bits for which MADV_PAGEOUT splits a folio whose entries differ in them, as World has it.
MADV_PAGEOUT_SPLITS = ("uffd_wp", "writable")
few_or_many = st.sampled_from([0.0, 0.02, 0.3, 0.9, 1.0])


@st.composite
def folios(draw, arch, workload):
    """Which folios there are, and how many pages."""
    order = st.integers(0, 5) | st.integers(0, LARGEST_ORDERS[arch])
    orders = draw(st.lists(order, min_size=1, max_size=4, unique=True))
    weights = {order: draw(st.integers(1, 4)) for order in orders}
    total = sum(weights.values())
    parts = [f"{order}:{weight / total!r}" for order, weight in weights.items()]
    nr_pages = 1 << max(orders)
    most = MOST_LARGE_FOLIOS if max(orders) > LARGE_ORDER else max(1, MOST_PAGES // nr_pages)
    pages = nr_pages * draw(st.integers(1, most))
    odd_pages = draw(st.integers(0, nr_pages - 1)) if workload == "file" else 0
    mixture = {"folios": ",".join(parts)} if len(orders) > 1 else {"order": orders[0]}
    return pages + odd_pages, mixture


@st.composite
def requests(draw, arch, workload):
    """What regular and irregular worlds have in common."""
    page_shift = sim.ARCHES[arch].page_shift
    pages, fields = draw(folios(arch, workload))
    # Only a request of more than four files makes one scan run on after its list is empty.
    asked_for = draw(st.integers(1, pages) | st.integers(1, 8 * pages))
    request = "pageout" if workload == "anon" else draw(st.sampled_from(sim.world.REQUESTS))
    fields |= {
        "map_bytes": (pages << page_shift) + draw(st.integers(0, (1 << page_shift) - 1)),
        "reclaim_bytes": (asked_for << page_shift) + draw(st.integers(0, (1 << page_shift) - 1)),
        "workload": workload,
        "request": request,
        "access": draw(st.sampled_from(sim.world.ACCESSES)),
        "mapped_by": 1 if request == "pageout" else draw(st.integers(1, 3)),
        "mappings": draw(st.integers(1, 2)) if workload == "file" and request != "pageout" else 1,
        "cpus": draw(st.integers(1, 2)),
        "stats_flush": draw(st.sampled_from(["never", "always", "0,3,20", "13"])),
        "seed": draw(st.integers(0, 2**31)),
    }
    if fields.get("order") == 0 and (workload != "file" or request != "pageout"):
        fields["lru_add_batch"] = draw(st.sampled_from([0, 3, 30]))
    return fields


def whole_folios(fields, arch):
    """Have MADV_PAGEOUT's range end at a folio's end: where it does not, the kernel splits one."""
    world = sim.World(**fields)
    if world.request != "pageout":
        return world
    facts = sim.ARCHES[arch]
    memory = lay_out(world, facts)
    ends = [*map(int, first_pages(memory)), len(memory.folio_flags)]
    asked_for = world.nr_to_reclaim(facts)
    end = next((end for end in ends if end >= asked_for), asked_for)
    return replace(world, reclaim_bytes=end << facts.page_shift)


@st.composite
def regular(draw, arch):
    """Worlds whose VMAs map every folio whole."""
    workload = draw(st.sampled_from(["file", "file", "lazyfree", "anon"]))
    fields = draw(requests(arch, workload))
    if draw(st.booleans()):
        fields["young"] = draw(few_or_many)
    return whole_folios(fields, arch)


@st.composite
def irregular(draw, arch, workload):
    """Worlds in which anything may be odd."""
    fields = draw(requests(arch, workload))
    pageout = fields["request"] == "pageout"
    # arm64 has no soft-dirty bit.
    names = [name for name in PTE_SHARES if arch == "x86_64" or name != "soft_dirty"]
    for name in draw(st.sets(st.sampled_from(names))):
        share = draw(few_or_many)
        fields[name] = float(round(share)) if pageout and name in MADV_PAGEOUT_SPLITS else share
    for name in draw(st.sets(st.sampled_from(["hwpoison", "dirty_folios", "pinned"]))):
        fields[name] = draw(few_or_many)
    if not pageout:
        fields |= draw(mappings(arch, fields))
    return whole_folios(fields, arch)


@st.composite
def mappings(draw, arch, fields):
    """Where VMAs and page tables cut folios, and which VMAs are locked."""
    facts = sim.ARCHES[arch]
    shifts = st.sampled_from([0, 1, 7, 16, 100, 500, (1 << facts.pmd_order) - 3])
    world = sim.World(**fields)
    cuts = st.integers(0, min(40, (world.nr_pages(facts) - 1) // 2))
    return {
        "vma_shift": draw(shifts),
        "vma_cut": draw(st.just(0) | cuts) if fields["workload"] == "file" else 0,
        "partly_mapped": draw(st.just(0.0) | few_or_many),
        "mlocked": draw(st.just(0) | st.integers(0, fields["mapped_by"])),
    }


def share_of(things, has):
    """0 if none of the things has it, 1 if all have, None otherwise, or if there are none."""
    found = {bool(has(thing)) for thing in things}
    return float(found.pop()) if len(found) == 1 else None


def honours(share, things, has):
    """Whether a share of all or none is kept to; one between can be met by chance alone."""
    things = list(things)
    return not things or share not in (0.0, 1.0) or share_of(things, has) == share


def check_folios(world, arch, objects):
    """Orders, alignment, shares of the mixture, and flags."""
    found = dict.fromkeys(world.shares, 0)
    end = 0
    for folio in objects.folios:
        assert folio.first == end
        assert folio.first % folio.nr_pages == 0
        found[folio.order] += folio.nr_pages
        end = folio.end
    assert end == world.nr_pages(arch)
    for order, share in world.shares.items():
        assert abs(found[order] - share * end) <= 2 << max(world.shares)
    for share, flag in (
        (world.hwpoison, "hwpoison"),
        (world.dirty_folios, "dirty"),
        (world.pinned, "pinned"),
    ):
        assert honours(share, objects.folios, lambda folio, flag=flag: getattr(folio, flag))
    for folio in objects.folios:
        assert folio.referenced == (world.workload == "file" and world.access == "pread")
        assert folio.swapbacked == (world.workload == "anon")
        assert not any((folio.active, folio.workingset, folio.swapcache, folio.reclaim))


def check_lists(world, objects):
    """Oldest first, but for what another CPU has not put on a list yet."""
    nr_absent = world.lru_add_batch if world.cpus > 1 else 0
    nr_listed = max(len(objects.folios) - nr_absent, 0)
    assert objects.inactive == objects.folios[:nr_listed]
    assert objects.active == []


def check_mapping(world, arch, objects, vma):
    """The entries of one VMA, and which of them stand in blocks or are leaves."""
    nr_pages = world.nr_pages(arch)
    assert (vma.start, vma.end) == (world.vma_cut, nr_pages - world.vma_cut)
    assert vma.shift == world.vma_shift
    assert vma.uffd_wp == (world.uffd_wp > 0)
    assert vma.locked == (objects.mms.index(vma.mm) < world.mlocked)
    entries = []
    for folio in objects.folios:
        leaf = objects.leaves.get(vma.place(folio.first)) if vma.starts_table(folio.first) else None
        if leaf is not None:
            assert folio.order == arch.pmd_order
            assert (vma.start <= folio.first, folio.end <= vma.end) == (True, True)
            entries.append(leaf)
            continue
        pages = range(max(folio.first, vma.start), min(folio.end, vma.end))
        entries_of = {page: objects.ptes.get(vma.place(page)) for page in pages}
        mapped = {page: entry for page, entry in entries_of.items() if entry}
        check_mapped_pages(world, folio, pages, mapped)
        check_blocks(arch, vma, folio, mapped)
        entries.extend(mapped.values())
    for name, bit in (
        ("young", "young"),
        ("dirty", "dirty"),
        ("writable", "write"),
        ("soft_dirty", "soft_dirty"),
        ("uffd_wp", "uffd_wp"),
    ):
        assert honours(getattr(world, name), entries, lambda entry, bit=bit: getattr(entry, bit))


def check_mapped_pages(world, folio, pages, mapped):
    """All pages, or those of the first half."""
    half = [page for page in pages if page < folio.first + folio.nr_pages // 2]
    assert all(entry.page == page for page, entry in mapped.items())
    if list(mapped) != list(pages):
        assert folio.large
        assert world.partly_mapped > 0
        assert list(mapped) == half
    elif folio.large and world.partly_mapped == 1:
        assert list(mapped) == half


def alike(entries):
    """Whether they are present, and differ in young and dirty at most."""
    kinds = {entry and (entry.write, entry.soft_dirty, entry.uffd_wp) for entry in entries}
    return None not in kinds and len(kinds) == 1


def check_blocks(arch, vma, folio, mapped):
    """Every aligned run of the contiguous bit's length has the bit if it is alike, no other has."""
    entries = [mapped.get(page) for page in range(folio.first, folio.end)]
    leaf_fits = folio.order == arch.pmd_order and vma.starts_table(folio.first)
    assert not (leaf_fits and alike(entries))
    size = 1 << arch.cont_order
    aligned = 1 < size <= folio.nr_pages and (folio.first + vma.shift) % size == 0
    if not aligned:
        assert not any(entry.cont for entry in mapped.values())
        return
    for start in range(0, folio.nr_pages, size):
        block = entries[start : start + size]
        assert {entry.cont for entry in block if entry} <= {alike(block)}

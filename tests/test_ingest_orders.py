# SPDX-License-Identifier: GPL-2.0-only
"""The folio orders of a run: measured by pages, by bytes or by tracepoints, or refused."""

import pytest
from test_ingest_captures import CAPTURES

from analysis.ingest import IngestError, orders, read, read_text


def test_the_order_of_a_run_is_what_its_tracepoints_say():
    timed = read(CAPTURES / "time_bash_default.txt")
    told = read(CAPTURES / "script_tracepoints.txt")
    joined = orders.join(timed, told)
    assert set(joined.frame["order"]) == {8}
    assert any("order 8: 100.0%" in note for note in joined.notes)


def test_mixed_orders_are_no_order():
    timed = read(CAPTURES / "time_bash_default.txt")
    joined = orders.join(timed, read(CAPTURES / "tp_folio_orders.txt"))
    assert joined.frame["order"].isna().all()
    assert any("order 9: 25.0%" in note and "mixed" in note for note in joined.notes)


def test_a_label_that_the_tracepoints_deny_is_refused():
    timed = read(CAPTURES / "time_bash_default.txt")
    claimed = type(timed)(timed.frame.assign(order=4).astype(timed.frame.dtypes))
    with pytest.raises(IngestError, match="order 4, where the folios were of order 8"):
        orders.join(claimed, read(CAPTURES / "script_tracepoints.txt"))


def test_thpmaps_tells_bytes_by_size():
    text = "file-thp-pte-aligned-64kB:      4096 kB ( 3%)\nfile-thp-pte-partial:  12 kB ( 1%)\n"
    share = orders.shares(read_text(text))
    assert dict(share) == {4: 1.0}
    with pytest.raises(IngestError, match="no folio order"):
        orders.shares(read(CAPTURES / "stat_csv.txt"))

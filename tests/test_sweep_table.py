# SPDX-License-Identifier: GPL-2.0-only
import io
import itertools

import pandas as pd
import pytest

from analysis import figures, sheet, stores, swept
from analysis.swept import SweptError


def record(ident, numbers, failure=None, **parameters):
    status = "failed" if failure else "done"
    rest = {"status": status, "numbers": numbers, "failure": failure and {"error": failure}}
    return {"id": ident, "parameters": parameters} | rest


# Orders 0 to 2 of two kernels: one function halves by order, one kernel calls another less.
RECORDS = [
    record(
        f"{kernel}-{order}",
        {"inputs.x": 9**order, "pages": 64 >> order, "calls": 64 >> (order * (kernel == "unmap"))},
        order=order,
        kernel=kernel,
    )
    for order in (0, 1, 2)
    for kernel in ("base", "unmap")
]


def title(records, number=""):
    rows = swept.table(records)
    return figures.finding(swept.summary(rows, swept.telling_number(rows, number)))


def test_numbers_keep_their_digits_and_text_is_text():
    numbers = {"whole": 2**53 + 1, "real": 0.1, "yes": True, "word": "a,b", "none": None}
    text = swept.csv(swept.table([record("i", numbers, a=1), record("j", {}, "E: no", a=2)]))
    assert text.decode().splitlines() == [
        "id,a,status,name,value,text",
        f"i,1,done,whole,{2**53 + 1},",
        "i,1,done,real,0.1,",
        "i,1,done,yes,1,",
        'i,1,done,word,,"a,b"',
        "i,1,done,none,,",
        "j,2,failed,error,,E: no",
    ]


def test_the_number_that_is_drawn_tells_the_kernels_apart():
    assert swept.telling_number(swept.table(RECORDS)) == "calls"
    where, low, high = title(RECORDS).split(": ")[0], "16 with kernel=unmap", "64 with kernel=base"
    assert title(RECORDS) == f"{where}: {low}, {high}, 4 times as many"
    assert where == "calls at order=2"
    assert title(RECORDS[:2]) == "pages is 64 in all 2 points"


def test_a_number_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(SweptError, match="no number 'page'; the notebook saved pages, calls"):
        swept.telling_number(swept.table(RECORDS), "page")


def test_where_only_the_order_differs_the_whole_range_is_told():
    base = [each for each in RECORDS if each["parameters"]["kernel"] == "base"]
    assert title(base) == "pages: 16 with order=2, 64 with order=0, 4 times as many"


@pytest.mark.parametrize(
    ("arches", "label"),
    [(["arm64", "x86_64"], "folio order and size"), (["arm64", "arm64-64k"], "folio order")],
)
def test_sizes_stand_under_orders_where_all_pages_are_of_4_kib(arches, label):
    points = itertools.product(arches, (1, 2))
    records = [record(f"{arch}{n}", {"n": n}, order=n, arch=arch) for arch, n in points]
    axes = swept.summary(swept.table(records), "n").subfigs[0].axes[0]
    assert axes.get_xlabel() == label
    assert ("KiB" in axes.get_xticklabels()[0].get_text()) == label.endswith("size")


def test_an_architecture_has_one_colour_and_a_kernel_one_marker():
    kinds = itertools.product(("arm64", "arm64-16k", "arm64-64k"), ("base", "unmap"), (1, 2))
    records = [record(f"{kind}", {"n": 1}, arch=kind[0], kernel=kind[1], order=kind[2])
               for kind in kinds]  # fmt: skip
    drawn = swept.summary(swept.table(records), "n").subfigs[0].axes[0].lines
    looks = [(line.get_color(), line.get_marker()) for line in drawn]
    assert len(set(looks)) == len(looks) == 6
    assert len({colour for colour, _ in looks}) == 3
    assert len({marker for _, marker in looks}) == 2


def test_a_large_ratio_has_no_exponent():
    records = [record(f"i{n}", {"n": n}, a=n) for n in (2, 8192)]
    assert title(records).endswith("4,096 times as many")


def test_points_without_a_whole_number_have_a_row_each():
    records = [record(f"i{n}", {"n": n}, word=word) for n, word in enumerate("abc")]
    rows = swept.table(records)
    figure = swept.summary(rows, "n")
    labels = [tick.get_text() for tick in figure.subfigs[0].axes[0].get_yticklabels()]
    assert labels == ["word=a", "word=b", "word=c"]
    assert figures.finding(figure) == "n: 0 with word=a, 2 with word=c"
    assert "n = 3 of 3 points, 0 failed" in figure.get_supxlabel()


def test_the_same_figure_gives_the_same_bytes():
    rows = swept.table(RECORDS)
    first, second = (sheet.svg(swept.summary(rows, "calls")) for _ in range(2))
    assert first == second
    assert b"<dc:date>" not in first


def test_where_no_number_was_saved_there_is_a_table_and_no_figure(tmp_path):
    failed = [record("i", {}, "E: no", a=1)]
    said = swept.write(stores.at(str(tmp_path)), "mine", failed)
    assert said == [
        f"{tmp_path}/mine.csv",
        f"{tmp_path}/mine.parquet",
        "no figure: no number to draw; the notebook saved none",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.csv", "mine.parquet"]


def test_parquet_holds_the_same_table():
    records = [record("i", {"n": 1, "w": "x"}, a=1), record("j", {"n": 2.5}, a="text")]
    content = swept.parquet(swept.table(records))
    found = pd.read_parquet(io.BytesIO(content))
    assert found["value"].tolist()[::2] == [1.0, 2.5]
    assert found["a"].tolist() == ["1", "1", "text"]
    assert found["text"].tolist() == ["", "x", ""]
    plain = pd.read_parquet(io.BytesIO(swept.parquet(swept.table(RECORDS))))
    pd.testing.assert_frame_equal(plain, swept.table(RECORDS).astype({"value": float}))

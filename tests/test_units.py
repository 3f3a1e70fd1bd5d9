# SPDX-License-Identifier: GPL-2.0-only
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.units import UnitError, folio_size, parse_size


@pytest.mark.parametrize(
    ("text", "nr_bytes"),
    [
        ("4096", 4096),
        ("1", 1),
        ("256M", 268_435_456),
        ("256m", 268_435_456),
        ("64KiB", 65_536),
        ("64kb", 65_536),
        ("7B", 7),
        ("10G", 10_737_418_240),
        ("1T", 1_099_511_627_776),
        ("0.2G", 214_748_364),  # what the emulated runs asked for, 214748364.8
        (".5K", 512),
        ("1.5", 1),
        ("0.001K", 1),
        (" 8G\n", 8_589_934_592),
    ],
)
def test_a_size_is_read_as_people_write_it(text, nr_bytes):
    assert parse_size(text) == nr_bytes


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "G", ".", "B", "KiB", "one", "nan", "inf", "0x10", "1e3", "1_000"),
        *("0", "0G", "0.0001K", "-1", "-1G", "+1", "1,5G", "1.G", "1..5G", "1 G", "1 2"),
        *("1P", "1KK", "1KiBs", "1K\n1K", "\u0661M", "\uff11M", "1\u212a"),
    ],
)
def test_what_is_no_size_is_refused_with_what_is_expected(text):
    with pytest.raises(UnitError) as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)
    assert "K, M, G, T" in str(caught.value)


@given(st.integers(1, 10**12), st.integers(0, 10**9 - 1), st.sampled_from("KMGT"))
def test_a_fraction_is_exact_down_to_the_byte(whole, billionths, suffix):
    exact = (whole + Fraction(billionths, 10**9)) * 1024 ** ("KMGT".index(suffix) + 1)
    assert parse_size(f"{whole}.{billionths:09d}{suffix}") == exact.__floor__()


@pytest.mark.parametrize(
    ("order", "text"),
    [(0, "4 KiB"), (4, "64 KiB"), (7, "512 KiB"), (8, "1 MiB"), (9, "2 MiB")],
)
def test_folio_sizes_are_of_4_kib_pages(order, text):
    assert folio_size(order) == text


@pytest.mark.parametrize("order", range(10))
def test_a_folio_size_reads_back_as_that_many_pages(order):
    assert parse_size(folio_size(order).replace(" ", "")) == 4096 * 2**order

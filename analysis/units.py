# SPDX-License-Identifier: GPL-2.0-only
"""Sizes as people write them, and as programs count them."""

import argparse
import re
from collections.abc import Callable
from decimal import Decimal

_SIZE = re.compile(r"(\d+(?:\.\d+)?|\.\d+)([KMGT]?)(?:(?<=[KMGT])i?B|B)?", re.IGNORECASE | re.ASCII)
_ORDERS = tuple("0123456789")
_SHIFT = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


class UnitError(ValueError):
    """A size that cannot be read; says what was found and what is expected."""


def parse_size(text: str) -> int:
    """Return bytes of a size such as 256M, 0.2G, 64KiB or 4096; suffixes are powers of 1024.

    A fraction of a byte is dropped, as a shell's arithmetic would. UnitError if it is not a size,
    or less than one byte.
    """
    match = _SIZE.fullmatch(text.strip())
    nr_bytes = int(Decimal(match[1]) * (1 << _SHIFT[match[2].upper()])) if match else 0
    if nr_bytes < 1:
        raise UnitError(f"size {text!r}: expected a number above 0, then K, M, G, T or nothing")
    return nr_bytes


def argument_of(parse: Callable[[str], object]) -> Callable[[str], object]:
    """Return an argparse type that says what `parse` says of bad text."""

    def read(text: str) -> object:
        try:
            return parse(text)
        except UnitError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def parse_orders(text: str) -> tuple[int, ...]:
    """Return the folio orders of 0:9, or 2,4,9, or both, rising; UnitError if one is not 0 to 9."""
    orders: set[int] = set()
    for item in text.split(","):
        first, colon, last = (part.strip() for part in item.partition(":"))
        last = last if colon else first
        if not (first in _ORDERS and last in _ORDERS and first <= last):
            raise UnitError(f"orders {text!r}: expected some of 0 to 9, such as 4, 2,4,9 or 0:9")
        orders.update(range(int(first), int(last) + 1))
    return tuple(sorted(orders))


def folio_size(order: int) -> str:
    """Return the size of a folio of 4 KiB pages as people write it: 64 KiB, 1 MiB."""
    kib = 4 << order
    return f"{kib} KiB" if kib < 1024 else f"{kib // 1024} MiB"


def two_digits(value: float) -> str:
    """Return a number with two digits, or all before the point: 0.21, 2.3, 108, 2,250."""
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.2g}"

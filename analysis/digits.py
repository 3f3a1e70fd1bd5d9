# SPDX-License-Identifier: GPL-2.0-only
"""Digits that follow the error: a number is written as far as it is known.

The rule of the Particle Data Group, Review of Particle Physics, Introduction, "Rounding": of the
three first digits of the error, 100 to 354 are rounded to two digits, 355 to 949 to one, and 950 to
999 to 1000, of which two are kept; the value has as many decimals as that.
"""

import math

from analysis.interval import Interval

# Standard errors in the width of a 95% interval.
WIDTH_95 = 2 * 1.96
UNKNOWN = "any"  # an end that the data do not tell


def decimals(error: float) -> int:
    """Return the decimals that an error leaves a value; negative: digits before the point are lost.

    Raises:
        ValueError: it is not a positive finite number.
    """
    return _kept(error)[1]


# The error as the rule rounds it, and its decimals.
def _kept(error: float) -> tuple[float, int]:
    if not 0 < error < math.inf:
        raise ValueError(f"error {error}: expected a finite number above 0")
    exponent = math.floor(math.log10(error))
    first = round(error / 10.0 ** (exponent - 2))
    if first >= 950:
        return 10.0 ** (exponent + 1), -exponent
    return error, 1 - exponent if first <= 354 else -exponent


def written(value: float, places: int) -> str:
    """Return a value with so many decimals, thousands apart; not a number is "-"."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return UNKNOWN
    return f"{round(value, places) + 0.0:,.{max(places, 0)}f}"


def with_error(value: float, error: float) -> tuple[str, str]:
    """Return a value and its standard error, e.g. "1,230" and "20"; "any" where it is infinite.

    Without an error (0, or missing) the value has four digits.
    """
    if math.isfinite(error) and error > 0:
        kept, places = _kept(error)
        return written(value, places), written(kept, places)
    return four(value), UNKNOWN if math.isinf(error) else "-"


def of_interval(interval: Interval, scale: float = 1.0, unit: str = "") -> str:
    """Return e.g. "54% (36% to 74%)" of a 95% interval, its width telling the digits.

    Of one with an infinite end the other side tells them; without any, best has four digits.
    """
    best = interval.best * scale
    ends = [end * scale for end in (interval.low, interval.high)]
    if ends[0] == ends[1]:
        return f"{four(best)}{unit}"
    sides = [abs(best - end) for end in ends if 0 < abs(best - end) < math.inf]
    if not sides:
        return f"{four(best)}{unit} (any)"
    places = decimals(2 * sum(sides) / len(sides) / WIDTH_95)
    low, high = (written(end, places) + (unit if math.isfinite(end) else "") for end in ends)
    return f"{written(best, places)}{unit} ({low} to {high})"


def four(value: float) -> str:
    """Return a number that is known exactly, or whose error is not: whole, or four digits."""
    if not math.isfinite(value) or value == round(value):
        return written(value, 0)
    return written(value, 3 - math.floor(math.log10(abs(value))))

# SPDX-License-Identifier: GPL-2.0-only
"""An uncertain number as one value: low, best, high."""

from typing import NamedTuple


class Interval(NamedTuple):
    """A best value and the range it lies in; the function that makes one says what range it is.

    Attributes:
        low, best, high: low <= best <= high. All three are equal where the number is known
            exactly; low and high are infinite where the data say nothing.
    """

    low: float
    best: float
    high: float

    def map(self, function) -> "Interval":
        """Return the interval of a monotonic function of the number, in rising order."""
        ends = sorted((function(self.low), function(self.high)))
        return Interval(ends[0], function(self.best), ends[1])

    def percent(self, digits: int = 0) -> str:
        """Return e.g. "58% (49% to 66%)"."""
        return self._text(lambda value: f"{100 * value:.{digits}f}%")

    def times(self, digits: int = 2) -> str:
        """Return e.g. "2.4x (2.0x to 2.9x)"."""
        return self._text(lambda value: f"{value:.{digits}f}x")

    def _text(self, written) -> str:
        best = written(self.best)
        if self.low == self.high:
            return best
        return f"{best} ({written(self.low)} to {written(self.high)})"


def speedup_of(elapsed_reduction: float) -> float:
    """Return before / after of an elapsed reduction: 0.75 is a speedup of 4."""
    return 1 / (1 - elapsed_reduction) if elapsed_reduction < 1 else float("inf")

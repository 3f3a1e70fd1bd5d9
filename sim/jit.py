# SPDX-License-Identifier: GPL-2.0-only
"""How the walk is compiled: numba, with an on-disk cache where one can be written."""

from collections.abc import Callable

import numba

# Of a walk at order 0 over 10 GiB, in ms: 1057 as numba would do it; 761 with every call inlined;
# 147 without reference counts on the arrays, which no function of the walk allocates or keeps;
# 72 with both. `benchmarks/simulate.py` measures the last.
OPTIONS = {"_nrt": False, "forceinline": True, "error_model": "numpy"}


def jit(function: Callable) -> Callable:
    """Compile `function` on its first call and keep the result on disk for the next start.

    The cache is a convenience: where neither __pycache__ nor the user's cache directory can be
    written (a read-only checkout, say) the function is compiled anew in every session. Under
    NUMBA_DISABLE_JIT=1 the function stays plain Python.
    """
    try:
        return numba.njit(cache=True, **OPTIONS)(function)
    except RuntimeError as error:  # numba: "cannot cache function ...: no locator available"
        if "no locator available" not in str(error):
            raise
        return numba.njit(**OPTIONS)(function)

# SPDX-License-Identifier: GPL-2.0-only
"""What notebooks import, imported once: the fork server of `analysis.runner` imports this module.

A notebook spends seconds on imports and on loading the compiled walk, and half a second on itself.
Each notebook still has a process of its own, a copy of this one, in which nothing has run but what
stands here. Nobody else imports this module: it does its work on import, which is all that a fork
server can be asked for.

What must not be imported here is what looks for IPython when it is imported, such as
`matplotlib_inline`: there is none yet.
"""

import gc
import importlib
import os
import warnings

import nbformat
from nbformat.v4 import new_notebook

import sim

# The notebooks' own imports, and what runs them; a test compares them with the notebooks.
MODULES = (
    "papermill",
    "ipykernel.debugger",
    "ipykernel.ipkernel",
    "ipykernel.kernelapp",
    "jupyter_client.asynchronous",
    "jupyter_client.provisioning",
    "pandas",
    "analysis.params",
    "analysis.ablations",
    "analysis.advise",
    "analysis.calibration",
    "analysis.claims",
    "analysis.coverage",
    "analysis.explore",
    "analysis.figures",
    "analysis.folio_sizes",
    "analysis.measurements",
    "analysis.report",
    "analysis.results",
    "analysis.safety",
    "analysis.score",
    "analysis.sensitivity",
    "analysis.whatif",
)


def _import_all() -> None:
    for name in MODULES:
        # What cannot be imported fails again, with its traceback, in the notebook that needs it.
        try:
            importlib.import_module(name)
        except Exception:
            continue


# What is compiled, or loaded from a cache, on first use.
def _use_once() -> None:
    nbformat.validate(new_notebook())
    world = sim.World(map_bytes=1 << 20, reclaim_bytes=1 << 19, order=1)
    sim.reclaim(world, "arm64", "unmap")


# The debugger, which nobody attaches, warns that Python's own modules are frozen.
os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    _import_all()
    _use_once()
# OpenBLAS has threads, and stops them for a fork by itself; Python 3.12 and later warn of it.
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
gc.collect()
gc.freeze()  # a collection in a copy would write to, and so copy, every page of this memory

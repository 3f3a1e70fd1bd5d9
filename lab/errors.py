# SPDX-License-Identifier: GPL-2.0-only
"""What can go wrong in the lab, one exception per meaning; each text says what to do next."""


class LabError(Exception):
    """Something the lab cannot do; the text says what was found, what was expected, what next."""


class AnchorError(LabError):
    """A kernel tree has no such function, or no such line in it, to put a switch at."""


class BuildError(LabError):
    """A kernel, or the guest's program, did not build."""


class GuestError(LabError):
    """A guest that panicked, hung, ran out of memory, or said what cannot be read."""


class MissingError(LabError):
    """A program that is not installed; the text names the package that has it."""

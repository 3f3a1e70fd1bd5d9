# SPDX-License-Identifier: GPL-2.0-only
"""Lab: real kernels, built, booted under emulation or timed where they run, and what they count."""

# SPDX-License-Identifier: GPL-2.0-only
"""Reads measurements, fits costs per event, explains, predicts and writes."""

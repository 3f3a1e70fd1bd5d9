# SPDX-License-Identifier: GPL-2.0-only
"""Ids: what tells one result from another, printed with every figure, table and message."""

import hashlib
import json


def short_id(inputs: object) -> str:
    """Return the first 12 hex digits of SHA-256 over the canonical JSON of `inputs`.

    Keys are sorted and separators carry no space, so that equal inputs have equal ids on every
    machine. TypeError if something in them is not JSON.
    """
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]

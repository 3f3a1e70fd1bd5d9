# SPDX-License-Identifier: GPL-2.0-only
"""The colours of all figures: what each stands for, in the light and in the dark.

A figure is drawn in the light colours alone. Its SVG then carries the dark ones in a style sheet
that finds what to change by its light colour, so that one drawing serves both themes, and a viewer
that reads no media queries still draws the light one. Custom properties in place of the colours
would leave such a viewer (librsvg 2.54, say) with black on black.
"""

import re
from typing import NamedTuple


class Role(NamedTuple):
    """One colour of the figures, "#rrggbb" on a light ground and on a dark one."""

    light: str
    dark: str


# No two are the same in the light, and none is #000000, which matplotlib leaves out of an SVG.
# Contrasts, and how far apart they stay for colour-blind readers: tests/test_palette.py.
ROLES = {
    "ground": Role("#ffffff", "#161616"),  # behind all, and within what is open; as in page.css
    "ink": Role("#1c1c1c", "#e4e4e4"),  # text, edges, lines of reference
    "soft": Role("#4d4d4d", "#b4b4b4"),  # the footer, and what belongs to no architecture
    "behind": Role("#808080", "#8c8c8c"),  # what was believed before a measurement
    "area": Role("#bfbfbf", "#555555"),  # filled, with an edge of ink
    "faint": Role("#ebebeb", "#2c2c2c"),  # bands and cells that text stands on
    "rule": Role("#cccccc", "#3f3f3f"),  # the grid
    "arm64": Role("#0173b2", "#56b4e9"),
    "x86_64": Role("#c07800", "#f5a623"),
    # Series of what is neither architecture nor kernel.
    "first": Role("#07a958", "#19f29e"),
    "second": Role("#9d291f", "#e76135"),
    "third": Role("#710c74", "#c344a6"),
    "fourth": Role("#234f51", "#a54ddc"),
}
SERIES = ("first", "second", "third", "fourth")
_PAINTED = re.compile(rb"\b(fill|stroke)(: |=\")(#[0-9a-f]{6})\b")


def light(name: str) -> str:
    """Return the colour that a role is drawn in."""
    return ROLES[name].light


def themed(svg: bytes) -> bytes:
    """Return an SVG of matplotlib that turns dark where its reader's theme is dark.

    What is printed is light. An SVG in other colours than those of `ROLES` keeps them, and text
    that is no SVG of matplotlib comes back as it is.
    """
    dark = {role.light.encode(): role.dark.encode() for role in ROLES.values()}
    painted = sorted(set(_PAINTED.findall(svg)))
    rules = [
        b'[style*="%b: %b"]{%b:%b!important}' % (what, colour, what, dark[colour])
        if by == b": "
        else b'[%b="%b"]{%b:%b}' % (what, colour, what, dark[colour])
        for what, by, colour in painted
        if colour in dark
    ]
    sheet = b"@media screen and (prefers-color-scheme: dark){%b}</style>" % b"".join(rules)
    return svg.replace(b"</style>", sheet, 1) if rules else svg

# SPDX-License-Identifier: GPL-2.0-only
"""Colours can be read and told apart, on a light ground and on a dark one, by every reader."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from analysis import palette
from analysis.palette import ROLES

THEMES = ("light", "dark")
TEXT = [("ink", "ground"), ("ink", "faint"), ("soft", "ground"), ("ground", "soft")]
MARKS = ("ink", "soft", "behind", "arm64", "x86_64", *palette.SERIES)
# Linear RGB as a viewer without one kind of cone sees it: Machado, Oliveira and Fernandes, "A
# physiologically-based model for simulation of color vision deficiency", IEEE TVCG 15(6), 2009,
# table of severity 1.0.
VIEWERS = {
    "all cones": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
               [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
               [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
               [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
# IEC 61966-2-1 (sRGB) to CIE XYZ, D65.
XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                [0.0193339, 0.1191920, 0.9503041]])  # fmt: skip
APART = 18  # CIE 1976 colour difference; 2.3 is just noticeable


def linear(colour: str) -> np.ndarray:
    """Return red, green and blue of "#rrggbb" as shares of light."""
    coded = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of WCAG 2.2."""
    low, high = sorted(float(XYZ[1] @ linear(colour)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(light: np.ndarray) -> np.ndarray:
    xyz = XYZ @ np.clip(light, 0, 1) / (XYZ @ np.ones(3))
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def colour(theme: str, role: str) -> str:
    return getattr(ROLES[role], theme)


def test_contrast_of_known_colours():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
    assert lab(linear("#ff0000")) == pytest.approx([53.24, 80.09, 67.20], abs=0.02)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(("text", "behind"), TEXT)
def test_text_can_be_read(theme, text, behind):
    assert contrast(colour(theme, text), colour(theme, behind)) >= 4.5


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("mark", MARKS)
def test_marks_can_be_seen(theme, mark):
    assert contrast(colour(theme, mark), colour(theme, "ground")) >= 3


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("area", ["area", "faint"])
def test_areas_have_an_edge_that_can_be_seen(theme, area):
    assert contrast(colour(theme, "ink"), colour(theme, area)) >= 3


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("viewer", VIEWERS)
def test_marks_stay_apart(theme, viewer):
    marks = [mark for mark in MARKS if mark != "soft"]  # never beside ink but by shape
    seen = {mark: lab(np.array(VIEWERS[viewer]) @ linear(colour(theme, mark))) for mark in marks}
    near = [
        (one, other, difference)
        for one, other in itertools.combinations(marks, 2)
        if (difference := np.linalg.norm(seen[one] - seen[other])) < APART
    ]
    assert near == []


def test_no_two_roles_are_the_same_in_the_light_and_none_is_left_out_of_an_svg():
    lights = [role.light for role in ROLES.values()]
    assert len(set(lights)) == len(lights)
    assert "#000000" not in lights
    assert all(re.fullmatch("#[0-9a-f]{6}", each) for role in ROLES.values() for each in role)


def test_the_ground_is_that_of_the_page():
    css = (Path(palette.__file__).parent / "page.css").read_text()
    backs = re.findall(r"--back: (#[0-9a-f]+)", css)
    assert backs[:2] == ["#fff", colour("dark", "ground")]
    assert colour("light", "ground") == "#ffffff"


SVG = (
    b'<svg><style type="text/css">*{a}</style><path style="fill: #0173b2; stroke: #1c1c1c"/>'
    b'<rect fill="#ffffff"/><style>*{b}</style></svg>'
)


def test_a_dark_theme_changes_each_colour_where_it_is_used_and_nothing_else():
    sheet = (
        b"@media screen and (prefers-color-scheme: dark){"
        b'[style*="fill: #0173b2"]{fill:#56b4e9!important}[fill="#ffffff"]{fill:#161616}'
        b'[style*="stroke: #1c1c1c"]{stroke:#e4e4e4!important}}'
    )
    assert palette.themed(SVG) == SVG.replace(b"{a}", b"{a}" + sheet)


@pytest.mark.parametrize("text", [b"", b"<svg>", b'<svg><style></style><path fill="#123456"/>'])
def test_what_is_in_no_colour_of_ours_stays_as_it_is(text):
    assert palette.themed(text) == text

# SPDX-License-Identifier: GPL-2.0-only
"""The page as a browser shows it: in the light, in the dark, on a phone and on paper."""

import base64
import io

import chromium
import matplotlib.image
import numpy as np
import pytest
from test_page import NOTEBOOKS, executed, printed, result, write

from analysis import readme, sheet
from analysis.page import write_page
from analysis.palette import ROLES

WORD = "a_kernel_function_of_a_name_that_goes_on_" * 6


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Return the addresses of the page and of a notebook's page, with a figure, a word and text."""
    out = tmp_path_factory.mktemp("page")
    for folder in ("results", "figures", "tables", "notebooks"):
        (out / folder).mkdir()
    svg, _ = sheet.save(readme.answer_figure(), out / "figures" / "answer")
    (out / "tables" / "table.csv").write_text(f"function,hits\n{WORD},1\n" * 2)
    (out / "text.txt").write_text(WORD)
    cells = executed(
        printed("image/svg+xml", svg.read_text()),
        printed("stdout", WORD),
        source=f"x = '{WORD}'",
        text=f"# {WORD}",
    )
    named = {
        "title": WORD,
        "question": WORD,
        "conclusion": WORD,
        "assumptions": [WORD],
        "inputs": {WORD: WORD},
        "numbers": {WORD: WORD},
        "figures": [{"name": "answer", "title": WORD}],
        "tables": ["table"],
        "texts": ["text.txt"],
    }
    for notebook in NOTEBOOKS:
        write(out, result(notebook, **named))
        (out / "notebooks" / f"{notebook}.ipynb").write_text(cells)
    index = write_page(out)
    return [index.as_uri(), (out / "notebooks" / f"{NOTEBOOKS[0]}.html").as_uri()]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium.need()
    with chromium.Page(tmp_path_factory.mktemp("browser"), width=1000, height=800) as page:
        yield page


def show(browser, url, theme="light", media="", width=1000):
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.resize(width, 800)
    browser.call("Emulation.setEmulatedMedia", media=media, features=features)
    browser.open(url)
    browser.until("document.readyState == 'complete' && document.images[0].complete")


def colours(browser, select: str) -> set[str]:
    """Return the colours of an element, as "#rrggbb", that more than 20 of its pixels have."""
    browser.run(f"document.querySelector('{select}').scrollIntoView()")
    x, y, width, height = browser.run(
        f"(() => {{ const box = document.querySelector('{select}').getBoundingClientRect();"
        "return [box.x + scrollX, box.y + scrollY, box.width, box.height] })()"
    )
    clip = {"x": x, "y": y, "width": width, "height": height, "scale": 1}
    shot = browser.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
    pixels = matplotlib.image.imread(io.BytesIO(base64.b64decode(shot["data"])))[..., :3]
    coded = np.rint(255 * pixels).astype(int) @ [1 << 16, 1 << 8, 1]
    values, counts = np.unique(coded, return_counts=True)
    return {f"#{value:06x}" for value in values[counts > 20]}


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize(
    ("theme", "media", "drawn"),
    [("light", "", "light"), ("dark", "", "dark"), ("dark", "print", "light")],
)
def test_figures_are_in_the_colours_of_the_theme_and_light_on_paper(
    browser, pages, at, theme, media, drawn
):
    show(browser, pages[at], theme, media)
    found = colours(browser, "img")
    assert {getattr(ROLES[role], drawn) for role in ("ground", "ink", "arm64", "x86_64")} <= found
    other = "dark" if drawn == "light" else "light"
    assert not {getattr(ROLES[role], other) for role in ("arm64", "x86_64")} & found


@pytest.mark.parametrize("at", [0, 1])
def test_nothing_makes_a_phone_scroll_sideways(browser, pages, at):
    show(browser, pages[at], width=360)
    browser.run("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("at", [0, 1])
def test_a_page_asks_for_nothing_but_itself(browser, pages, at):
    show(browser, pages[at])
    assert browser.run("performance.getEntriesByType('resource').map(each => each.name)"
                       ".filter(name => !name.startsWith('data:'))") == []  # fmt: skip

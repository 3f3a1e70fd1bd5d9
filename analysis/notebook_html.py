# SPDX-License-Identifier: GPL-2.0-only
"""Executed notebooks as HTML that loads and runs nothing.

What a notebook printed may come from a capture, and so may markup in it: the tags that text, tables
and code need are kept, images are those within the page, links lead nowhere else, and the rest is
taken out.
"""

import re
from functools import cache

import bleach
import nbformat
from nbconvert import HTMLExporter

from analysis import palette

TAGS = frozenset([
    "b", "br", "caption", "code", "div", "em", "h1", "h2", "h3", "i", "img", "li", "ol", "p", "pre",
    "span", "strong", "sub", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul",
])  # fmt: skip
ATTRIBUTES = frozenset(("alt", "class", "colspan", "rowspan", "scope"))
SHOWN = {"text/plain", "text/html", "text/markdown", "text/latex", "image/svg+xml", "image/png"}
CONTROLS = "application/vnd.jupyter.widget-view+json"
# Of what has no meaning without its tag, not even the text stays.
_WITH_TEXT = re.compile(r"<(style|script)\b.*?(</\1\s*>|\Z)", re.DOTALL | re.IGNORECASE)


def body(executed: str) -> str:
    """Return the cells of an executed notebook and what they printed, as HTML without a head.

    Raises:
        ValueError: it is no notebook of version 4.
    """
    try:
        notebook = nbformat.reads(executed, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # nbformat raises whatever the wrong place in the JSON leads to
        raise ValueError(" ".join(str(error).split())[:200]) from None
    notebook.metadata.pop("widgets", None)  # the state of controls, which a script would draw
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if "data" in output:
                output.data = _shown(output.data)
    html, _ = _exporter().from_notebook_node(notebook)
    return bleach.clean(html, TAGS, _kept, ("data",), strip=True)


@cache
def _exporter() -> HTMLExporter:
    return HTMLExporter(template_name="basic", exclude_anchor_links=True)


def _shown(printed: dict[str, str]) -> nbformat.NotebookNode:
    if CONTROLS in printed:
        said = "controls: they are there where the notebook runs"
        return nbformat.from_dict({"text/plain": said})
    shown = {kind: content for kind, content in printed.items() if kind in SHOWN}
    if svg := shown.get("image/svg+xml"):
        shown["image/svg+xml"] = palette.themed(svg.encode("utf-8", "replace")).decode()
    for kind in shown.keys() & {"text/html", "text/markdown"}:
        # pandas puts a style before each table.
        shown[kind] = _WITH_TEXT.sub("", shown[kind])
    return nbformat.from_dict(shown or {"text/plain": f"not shown: {', '.join(printed)}"})


def _kept(tag: str, name: str, value: str) -> bool:
    if name == "src":
        return tag == "img" and value.startswith("data:image/")
    return name in ATTRIBUTES

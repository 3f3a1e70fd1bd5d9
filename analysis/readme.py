# SPDX-License-Identifier: GPL-2.0-only
"""The README's answer: its table and its picture, written by `python -m analysis.readme`."""

import re
from pathlib import Path

from analysis import figures, sheet
from analysis.files import write_whole
from analysis.predict import predict
from analysis.report import answer_table
from sim import MEASURED_ARCHES

ROOT = Path(__file__).resolve().parents[1]
_BLOCK = re.compile(r"(?<=-->\n).*?(?=<!-- /answer -->)", re.DOTALL)


def with_answer(readme: str) -> str:
    """Return the README's text with today's table in its place."""
    return _BLOCK.sub(lambda _: f"\n{answer_table()}\n", readme, count=1)


def answer_figure():
    """Return the README's picture: instructions that batched unmapping saves, by folio size."""
    orders = range(10)
    return figures.reduction_by_order(
        [
            predict(arch, order, metric="instructions")
            for arch in MEASURED_ARCHES
            for order in orders
        ]
    )


def main() -> None:
    """Write README.md and docs/answer.svg anew."""
    readme = ROOT / "README.md"
    write_whole(readme, with_answer(readme.read_text(encoding="utf-8")).encode())
    sheet.save(answer_figure(), ROOT / "docs" / "answer")
    (ROOT / "docs" / "answer.png").unlink()  # the README shows the SVG


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: GPL-2.0-only
"""An answer of `analysis.explore` as a table whose rows hold their bars: HTML that draws at once.

A matplotlib figure of the same takes a quarter of a second as SVG; this takes a millisecond, keeps
its text readable at any width, and is a table to a screen reader. Bars start at zero, predictions
are hatched, one hatch a kernel, measurements filled; colours are those of the architectures, and
text takes the colour of the page around it. All text is escaped.
"""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from matplotlib.colors import to_hex

from analysis.explore import Answer, Cost, Measured, percent, request
from analysis.interval import Interval
from analysis.sheet import COLOURS
from sim import FILE_SERIES

# Lines of each kernel's hatch, in a square of 6: legible in grey, and unlike beside each other.
_RISING, _FALLING = "M-1 1L1 -1M0 6L6 0M5 7L7 5", "M-1 5L1 7M0 0L6 6M5 -1L7 1"
_HATCHES = dict(zip(FILE_SERIES, ("M3 0V6", _RISING, _FALLING, _RISING + _FALLING), strict=True))
_FILLED = 'fill="var(--colour)" stroke="currentColor"'
_BAR, _GAP = 11, 3  # pixels of height

# JupyterLab takes the keys of a focused select, slider or button for its own shortcuts, to which X
# is "cut this cell" and an arrow "go to the next", unless the element itself says not to. A style's
# load is the one event that a widget's HTML gets without the reader doing anything. A slider's
# handle has no name of its own.
_KEYS = """const o = this.closest('.jp-OutputArea-output');
if (o && !o.dataset.reclaimKeys) {
  o.dataset.reclaimKeys = 'own';
  o.addEventListener('focusin', e => {
    e.target.setAttribute('data-lm-suppress-shortcuts', '');
    const label = e.target.closest('.widget-hslider')?.querySelector('.widget-label');
    if (label) e.target.setAttribute('aria-label', label.innerText);
  });
}"""
_STYLE = f'<style onload="{escape(_KEYS)}">' """
.reclaim-x {--colour: var(--own); max-width: 62em;
  color: var(--jp-content-font-color1, currentColor);
  font: 14px/1.45 var(--jp-ui-font-family, sans-serif)}
[data-jp-theme-light="false"] .reclaim-x {--colour: color-mix(in srgb, var(--own) 60%, white)}
.reclaim-x h3 {font-size: 16px; margin: .4em 0 .6em}
.reclaim-x table {width: 100%; border-collapse: collapse; margin: 0 0 1em}
.reclaim-x caption {text-align: left; font-weight: 600; padding: .2em 0}
.reclaim-x th, .reclaim-x td {padding: 3px 8px 3px 0; text-align: left; vertical-align: middle;
  font-weight: normal; border-top: 1px solid color-mix(in srgb, currentColor 18%, transparent);
  background: none; color: inherit}
.reclaim-x th {width: 27%; overflow-wrap: anywhere}
.reclaim-x td.value {width: 31%; font-variant-numeric: tabular-nums; line-height: 14px;
  font-size: 12px}
.reclaim-x td.value span {display: block; white-space: nowrap}
.reclaim-x .request {margin: 0 0 .6em}
.reclaim-x .waits {font-weight: 600}
.reclaim-x svg {display: block; overflow: visible}
.reclaim-x .legend {display: flex; flex-wrap: wrap; gap: .2em 1.4em; margin: 0 0 .6em}
.reclaim-x .legend span {display: inline-flex; align-items: center; gap: .4em}
.reclaim-x .notes {font-size: 12px; margin: 0; padding-left: 1.2em}
.reclaim-x textarea {display: block; box-sizing: border-box; width: 100%; max-width: 45em;
  margin-top: .4em; font: 12px/1.35 monospace; white-space: pre; overflow: auto; color: inherit;
  background: none}
.reclaim-x .refused {border: 2px solid; padding: .5em .8em; white-space: pre-wrap; margin: 0 0 1em}
.reclaim-x {container-type: inline-size}
@container (max-width: 32em) {
  .reclaim-x tr {display: grid; grid-template-columns: 1fr 11em; column-gap: 8px}
  .reclaim-x th {grid-column: 1 / -1; width: auto; padding-bottom: 0}
  .reclaim-x td {border: 0; padding-right: 0}
  .reclaim-x td.value {width: auto}
  .reclaim-x td.value span {white-space: normal}}
/* The arrow of ipywidgets is dark on dark. */
[data-jp-theme-light="false"] .widget-dropdown > select {appearance: auto; color-scheme: dark;
  background-image: none}
</style>"""


class _Row(NamedTuple):
    # One quantity: bars of W/o, W/ and, where there is one, what was measured.
    name: str
    bars: list[Interval]
    values: list[str]


def refusal(message: str) -> str:
    """Return a message about what cannot be shown."""
    return f'{_STYLE}<div class="reclaim-x">{_refused(message)}</div>'


def _refused(message: str) -> str:
    return f'<p class="refused" role="alert">{escape(message)}</p>' if message else ""


def page(
    answer: Answer, measured: Measured | None = None, problem: str = "", waited_for: str = ""
) -> str:
    """Return an answer as HTML.

    Args:
        answer: what is drawn.
        measured: what is drawn beside it.
        problem: a message to show above it.
        waited_for: the request that was asked for, where what is drawn is of a smaller one.
    """
    events = answer.events(tuple(measured.events) if measured else ())
    seen = measured.events if measured else {}
    colour = to_hex(COLOURS[answer.asked.arch])
    rows = [
        _row(str(row.function), _exact(row.before), _exact(row.after), seen.get(row.function))
        for row in events.itertuples()
    ]
    instructions, seconds = (measured.instructions, measured.seconds) if measured else (None, None)
    costs = [
        _cost_row("instructions, millions", answer.instructions, 1e-6, instructions),
        _cost_row("time, ms", answer.time, 1e3, seconds),
    ]
    notes = (*answer.notes, *(measured.notes if measured else ()), f"id {answer.id}")
    return "".join(
        [
            _STYLE, f'<div class="reclaim-x" style="--own: {colour}">', _refused(problem),
            f'<h3 role="status">{escape(answer.finding)}</h3>', _request(answer, waited_for),
            _legend(answer, measured),
            _table("Reduction: 1 - W/ over W/o", _reductions(answer)),
            _table("Cost", [_bars(answer, row, _end(row.bars)) for row in costs]),
            _table("Events, hits by kernel function", _event_rows(answer, rows)),
            '<ul class="notes">', *(f"<li>{escape(note)}</li>" for note in notes), "</ul></div>",
        ]
    )  # fmt: skip


def _request(answer: Answer, waited_for: str) -> str:
    asked = answer.asked
    said = f"Reclaiming {request(asked)}; {asked.lru} LRU."
    if not waited_for:
        return f'<p class="request">{escape(said)}</p>'
    wait = f"{said} Exact, but of less than is asked for: {waited_for} is still being simulated."
    return f'<p class="request waits" role="status">{escape(wait)}</p>'


def _exact(value: float) -> Interval:
    return Interval(value, value, value)


def _event_rows(answer: Answer, rows: list[_Row]) -> list[str]:
    # All on one scale: hits can be compared.
    end = max((_end(row.bars) for row in rows), default=1.0)
    return [_bars(answer, row, end) for row in rows]


def _row(name: str, before: Interval, after: Interval, seen: Interval | None) -> _Row:
    change = f" ({_change(before.best, after.best)})"
    values = [f"W/o {before.best:,.0f}", f"W/ {after.best:,.0f}{change}"]
    bars = [before, after]
    if seen is not None:
        bars.append(seen)
        values.append(f"measured {_ends(seen, ',.0f')}")
    return _Row(name, bars, values)


def _cost_row(name: str, cost: Cost, scale: float, seen: tuple[str, Interval] | None) -> _Row:
    bars = [_scaled(cost.before, scale), _scaled(cost.after, scale)]
    digits = ",.1f" if bars[0].best >= 10 else ".3g"
    values = [f"{who} {_ends(bar, digits)}" for who, bar in zip(("W/o", "W/"), bars, strict=True)]
    if seen is not None:
        bars.append(_scaled(seen[1], scale))
        values.append(f"measured ({seen[0]}) {_ends(bars[-1], digits)}")
    return _Row(name, bars, values)


def _scaled(interval: Interval, scale: float) -> Interval:
    return Interval(*(end * scale for end in interval))


def _ends(value: Interval, digits: str) -> str:
    if value.low == value.high:
        return f"{value.best:{digits}}"
    return f"{value.best:{digits}} ({value.low:{digits}} to {value.high:{digits}})"


def _change(before: float, after: float) -> str:
    if not before:
        return "new" if after else "0%"
    return f"{after / before - 1:+.0%}" if after != before else "0%"


def _end(bars: Sequence[Interval]) -> float:
    return max(bar.high for bar in bars) or 1.0


def _table(caption: str, rows: Sequence[str]) -> str:
    return f"<table><caption>{escape(caption)}</caption><tbody>{''.join(rows)}</tbody></table>"


def _bars(answer: Answer, row: _Row, end: float) -> str:
    looks = [*_looks(answer), _FILLED]
    height = len(row.bars) * (_BAR + _GAP)
    drawn = "".join(
        _bar(place, bar, end, look)
        for place, (bar, look) in enumerate(zip(row.bars, looks, strict=False))
    )
    return _line(row.name, height, drawn, row.values)


def _line(name: str, height: int, drawn: str, values: Sequence[str]) -> str:
    said = "".join(f"<span>{escape(value)}</span>" for value in values)
    name = escape(name).replace("_", "_<wbr>")  # where it may be broken
    return (
        f'<tr><th scope="row">{name}</th><td><svg width="100%" height="{height}" '
        f'aria-hidden="true">{drawn}</svg></td><td class="value">{said}</td></tr>'
    )


def _bar(place: int, bar: Interval, end: float, look: str) -> str:
    top = place * (_BAR + _GAP) + _GAP / 2
    drawn = f'<rect x="0" y="{top}" width="{100 * bar.best / end:.3f}%" height="{_BAR}" {look}/>'
    return drawn if bar.low == bar.high else drawn + _whisker(bar, 0.0, end, top + _BAR / 2)


def _whisker(bar: Interval, start: float, end: float, y: float) -> str:
    low, high = (100 * (each - start) / (end - start) for each in (bar.low, bar.high))
    ends = "".join(
        f'<line x1="{x:.3f}%" x2="{x:.3f}%" y1="{y - 3}" y2="{y + 3}" stroke="currentColor"/>'
        for x in (low, high)
    )
    # Wide in the colour of the page under it, so that it stands out from a hatch.
    under, line = (
        f'<line x1="{low:.3f}%" x2="{high:.3f}%" y1="{y}" y2="{y}" stroke="{colour}" '
        f'stroke-width="{width}"/>'
        for colour, width in (("var(--jp-layout-color0, white)", 4), ("currentColor", 1.5))
    )
    return under + line + ends


def _reductions(answer: Answer) -> list[str]:
    costs = {"instructions": answer.instructions, "time": answer.time}
    start = min(0.0, *(cost.reduction.low for cost in costs.values()))
    return [_reduction(name, cost.reduction, start) for name, cost in costs.items()]


def _reduction(name: str, reduction: Interval, start: float) -> str:
    height = _BAR + _GAP
    zero, best = (100 * (each - start) / (1 - start) for each in (0.0, reduction.best))
    y = height / 2
    axis = (
        f'<line x1="0" x2="100%" y1="{y}" y2="{y}" stroke="currentColor" stroke-opacity=".3"/>'
        f'<line x1="{zero:.3f}%" x2="{zero:.3f}%" y1="0" y2="{height}" stroke="currentColor"/>'
    )
    point = (
        f'<circle cx="{best:.3f}%" cy="{y}" r="5" stroke="var(--colour)" stroke-width="2.5" '
        'fill="var(--jp-layout-color0, white)"/>'
    )
    drawn = axis + _whisker(reduction, start, 1.0, y) + point
    ends = f"scale: {start:.0%} to 100%"
    return _line(name, height, drawn, [percent(reduction), ends])


def _legend(answer: Answer, measured: Measured | None) -> str:
    asked = answer.asked
    looks = [*_looks(answer), _FILLED]
    names = [f"W/o: {asked.before}", f"W/: {asked.after}", *(["measured"] if measured else [])]
    keys = "".join(
        f'<span><svg width="34" height="{_BAR}" aria-hidden="true">'
        f'<rect width="34" height="{_BAR}" {look}/></svg>{escape(name)}</span>'
        for name, look in zip(names, looks, strict=False)
    )
    return f'<div class="legend">{_patterns(answer)}{keys}</div>'


def _patterns(answer: Answer) -> str:
    drawn = "".join(
        f'<pattern id="{_pattern(answer, kernel)}" width="6" height="6" '
        f'patternUnits="userSpaceOnUse"><path d="{_HATCHES[kernel]}" stroke="var(--colour)" '
        'stroke-width="1.6" fill="none"/></pattern>'
        for kernel in (answer.asked.before, answer.asked.after)
    )
    return f'<svg width="0" height="0" style="position: absolute"><defs>{drawn}</defs></svg>'


def _pattern(answer: Answer, kernel: str) -> str:
    # Of its own answer: one of the same name elsewhere on the page may be hidden, and draw nothing.
    return f"reclaim-{answer.id}-{kernel}"


def _looks(answer: Answer) -> list[str]:
    return [
        f'fill="url(#{_pattern(answer, kernel)})" stroke="var(--colour)" stroke-width="1.5"'
        for kernel in (answer.asked.before, answer.asked.after)
    ]


# Runs in the reader's browser at the reader's own key or click, which is what lets it write to the
# clipboard; where that is not allowed, the text is selected for Ctrl-C.
_COPY = """const t = this.parentNode.querySelector('textarea');
const s = this.parentNode.querySelector('output');
const select = () => { t.focus(); t.select(); s.value = 'Selected: press Ctrl-C.'; };
if (navigator.clipboard) {
  navigator.clipboard.writeText(t.value).then(() => { s.value = 'Copied.'; }, select);
} else { select(); }"""


def copied(text: str) -> str:
    """Return a button that copies a table by folio size, and the table; empty: it is written."""
    rows, off = (text.count("\n") + 1, "") if text else (1, " disabled")
    about = "By folio size; memory and processes are those measured, the LRU the classic one."
    return (
        f'<div class="reclaim-x"><button type="button" class="jp-Button jupyter-button" '
        f'onclick="{escape(_COPY)}"{off}>Copy the table for a commit message</button> '
        f'<output role="status"></output><p class="request">{about}</p><textarea readonly '
        f'rows="{rows}" aria-label="Table for a commit message" spellcheck="false">'
        f"{escape(text or 'It is being written.')}</textarea></div>"
    )

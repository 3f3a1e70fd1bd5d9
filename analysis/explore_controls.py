# SPDX-License-Identifier: GPL-2.0-only
"""The controls of the notebook `explore`: each redraws one view, and nothing else runs.

Native elements (select, input) where there is one, so that a keyboard and a screen reader reach
them: each has its label. A refused value or capture shows its message above the last good answer.
What takes longer than a reader waits is drawn twice: first, and saying so, of a smaller request.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import fields, replace
from io import BytesIO
from pathlib import Path

import ipywidgets as widgets

from analysis import explore, explore_html, ingest, params
from analysis.fit import FitError
from analysis.samples import Samples
from analysis.units import folio_size
from sim import FILE_SERIES, LRUS, MEASURED_ARCHES, WorldError

_ORDERS = [(f"{order}: {folio_size(order)}", order) for order in range(10)]
# ipywidgets gives each element a margin of 2 pixels.
_NARROW = {"max_width": "calc(100% - 4px)"}
_LABEL = {"style": {"description_width": "7.5em"}, "layout": {"width": "24em"} | _NARROW}


class Explorer:
    """Controls and the view that they redraw.

    Attributes:
        box: everything, to be displayed.
        controls: by parameter of `params.Explore`.
        drawing: what draws anew when it is done; empty: what is shown is what is asked for.
        settled: what was first drawn of a smaller request, and then whole.
    """

    def __init__(self, asked: params.Explore) -> None:
        self.controls = _controls(asked)
        self.upload = widgets.FileUpload(
            description="Upload a capture", multiple=False,
            layout={"width": "16em"} | _NARROW,
            tooltip="perf, time, ftrace, bpftrace or counters; read here, sent nowhere",
        )  # fmt: skip
        self.view, self.message = widgets.HTML(), widgets.HTML()
        self._capture: tuple[Samples, str] | None = None
        self._refused = {"value": "", "capture": ""}
        self._started: list[Future] = []
        self.settled: set[params.Explore] = set()
        self.drawing: set[asyncio.Task] = set()
        for arch in MEASURED_ARCHES:
            explore.warm(arch)
        self._asked = replace(asked, capture="", out="")
        self._shown = explore.answer(self._asked)
        explore.message(self._asked)
        self._read_path()
        self._redraw()
        for name, control in self.controls.items():
            control.observe(self._picked if name == "capture" else self._moved, "value")
        self.upload.observe(self._uploaded, "value")
        grid = widgets.Box([*self.controls.values(), self.upload], layout={"flex_flow": "row wrap"})
        self.box = widgets.VBox([grid, self.view, self.message])

    @property
    def answer(self) -> explore.Answer:
        """The answer to what the controls say, waited for: of a smaller request it is none."""
        wait(self._started)
        return explore.answer(self._asked)

    def _moved(self, _change: object) -> None:
        given = {name: control.value for name, control in self.controls.items()}
        self.controls["order"].disabled = bool(given["folios"])
        self._refused["value"] = ""
        try:
            self._ask(replace(self._asked, **given | {"capture": ""}))
        except params.ParamsError as error:
            self._refuse(error)
        self._redraw()

    def _refuse(self, error: Exception) -> None:
        self._refused["value"] = str(error).partition("\n")[0]

    def _ask(self, asked: params.Explore) -> None:
        for simulation in self._started:
            simulation.cancel()
        self._asked, self._started = asked, []
        if asked in self.settled or explore.at_once(asked) or not _loop():
            self._show(asked)
            return
        self._show(explore.smaller(asked))  # before the others take the processors
        self._started = explore.start(asked)
        self._draw_after(self._started, self._settle)

    def _settle(self) -> None:
        self.settled.add(self._asked)
        self._show(self._asked)
        self._redraw()

    def _show(self, asked: params.Explore) -> None:
        try:
            self._shown = explore.answer(asked)
        except (WorldError, FitError) as error:
            self._asked = self._shown.asked
            self._refuse(error)

    def _draw_after(self, started: list[Future], draw: Callable[[], None]) -> None:
        # Unless the controls have moved on by then.
        async def later(asked: params.Explore) -> None:
            await asyncio.gather(*map(asyncio.wrap_future, started), return_exceptions=True)
            if asked is self._asked:
                draw()

        task = _loop().create_task(later(self._asked))
        self.drawing.add(task)
        task.add_done_callback(self.drawing.discard)

    def _picked(self, _change: object) -> None:
        self._read_path()
        self._redraw()

    def _read_path(self) -> None:
        path = self.controls["capture"].value.strip()
        self._capture, self._refused["capture"] = None, ""
        if path:
            self._read(Path(path).expanduser(), path)

    def _uploaded(self, _change: object) -> None:
        for file in self.upload.value:
            stream = BytesIO(bytes(file["content"]))
            stream.name = file["name"]
            self._capture, self._refused["capture"] = None, ""
            self._read(stream, file["name"])
        self._redraw()

    def _read(self, source: Path | BytesIO, name: str) -> None:
        try:
            self._capture = ingest.read(source), name
        except ingest.IngestError as error:
            self._refused["capture"] = str(error)

    def _redraw(self) -> None:
        problem = "\n".join(filter(None, self._refused.values()))
        waited_for = "" if self._shown.asked == self._asked else explore.request(self._asked)
        self.view.value = explore_html.page(self._shown, self._measured(), problem, waited_for)
        self.message.value = explore_html.copied(self._table())

    def _table(self) -> str:
        # Empty while it is written.
        written = explore.start_message(self._asked)
        if written.done() or not _loop():
            return written.result()
        self._draw_after([written], self._redraw)
        return ""

    def _measured(self) -> explore.Measured | None:
        if self._capture is None:
            return None
        samples, name = self._capture
        return explore.measured(samples, name, self._asked.arch, self._asked.lru)


def _loop() -> asyncio.AbstractEventLoop | None:
    # Jupyter's, of the kernel: without one nothing can be drawn later.
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _controls(asked: params.Explore) -> dict[str, widgets.ValueWidget]:
    made = {
        "arch": _one_of(MEASURED_ARCHES, "Architecture"),
        "before": _one_of(FILE_SERIES, "W/o kernel"),
        "after": _one_of(FILE_SERIES, "W/ kernel"),
        "lru": _one_of(LRUS, "LRU"),
        "order": widgets.SelectionSlider(options=_ORDERS, description="Folio order", **_LABEL),
        "folios": _text("Or a mixture", "shares of memory: 0:0.2,4:0.8"),
        "map_size": _text("Mapped", "a size: 256M"),
        "reclaim_size": _text("Reclaimed", "a size: 0.2G"),
        "mapped_by": widgets.BoundedIntText(min=1, max=1024, description="Processes", **_LABEL),
        "capture": _text("Your capture", "path of a file of perf, time, ftrace, ..."),
    }
    for each in fields(asked):
        if each.name in made:
            made[each.name].value = getattr(asked, each.name)
            made[each.name].tooltip = each.metadata["allowed"]
    return made


def _one_of(options: tuple[str, ...], description: str) -> widgets.Dropdown:
    return widgets.Dropdown(options=options, description=description, **_LABEL)


def _text(description: str, placeholder: str) -> widgets.Text:
    # Redrawn at Enter or when left: half a number is no size.
    return widgets.Text(
        description=description, placeholder=placeholder, continuous_update=False, **_LABEL
    )

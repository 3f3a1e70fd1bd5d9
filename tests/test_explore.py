# SPDX-License-Identifier: GPL-2.0-only
import asyncio
import re
from concurrent.futures import wait
from dataclasses import replace
from datetime import UTC, datetime
from html import escape
from html.parser import HTMLParser

import pytest

from analysis import explore, explore_html, predict, report, timing
from analysis.explore_controls import Explorer
from analysis.ingest import read_text
from analysis.params import Explore, ParamsError
from sim import FILE_SERIES, LRUS, MEASURED_ARCHES

PUBLISHED = {"map_size": "10G", "reclaim_size": "8G"}
HOSTILE = '<script>alert(1)</script>&"\'.txt'
PROFILE = (
    "  Function                               Hit    Time            Avg             s^2\n"
    "  --------                               ---    ----            ---             ---\n"
    "  try_to_unmap_one                      22943    1994458.706 us     86.931 us   65.5 us\n"
    "  mlock_folio                               7          1.000 us      0.143 us    0.0 us\n"
    "  vfs_read                                 70         10.000 us      0.143 us    0.0 us\n"
)
TIMES = "\nreal\t0m0.131s\nuser\t0m0.014s\nsys\t0m0.024s\n"
REFUSED = "nothing that was measured\n"


def answered(**given):
    return explore.answer(Explore(**given))


def forget_what_was_simulated():
    for each in (explore.answer, timing.simulated, explore._written_message):
        each.cache_clear()


@pytest.mark.parametrize("arch", MEASURED_ARCHES)
@pytest.mark.parametrize("metric", ["instructions", "time"])
def test_the_published_request_is_predicted_alike(arch, metric):
    found = getattr(answered(arch=arch, order=6, **PUBLISHED), metric).reduction
    expected = predict.predict(arch, 6, metric=metric).elapsed_reduction
    assert tuple(found) == pytest.approx(tuple(expected), rel=1e-6)


def test_a_reduction_is_that_of_the_costs_beside_it():
    for cost in (answered().instructions, answered().time):
        assert cost.before.low < cost.before.best < cost.before.high
        saved = 1 - cost.after.best / cost.before.best
        assert saved == pytest.approx(cost.reduction.best, abs=0.02)


@pytest.mark.parametrize("order", [0, 9])
def test_where_no_batch_matters_nothing_is_saved(order):
    found = answered(order=order, before="base")
    assert found.instructions.reduction == found.time.reduction == (0, 0, 0)
    assert found.finding.endswith("execute the same events, nothing is saved")
    assert found.instructions.before == found.instructions.after


def test_a_mixture_saves_less_than_its_best_order_and_more_than_its_worst():
    best, worst = (answered(order=order).instructions.reduction.best for order in (5, 0))
    mixed = answered(folios="0:0.5,5:0.5")
    assert worst < mixed.instructions.reduction.best < best
    assert mixed.folios == "50% 4 KiB, 50% 128 KiB"
    assert any("mixture" in note for note in mixed.notes)


def test_a_mixture_of_one_order_is_that_order():
    assert answered(folios="5:1").instructions == answered(order=5).instructions


def test_pmd_mapped_folios_dilute_what_is_saved():
    alone, diluted = answered(order=4), answered(folios="4:0.5,9:0.5")
    assert 0 < diluted.instructions.reduction.best < alone.instructions.reduction.best


def test_the_button_copies_the_table_by_folio_size():
    table = report.commit_message(arches=("x86_64",), before="base", after="unmap")
    asked = Explore(arch="x86_64", before="base", lru="mglru", order=2, map_size="64M", mapped_by=3)
    assert explore.message(asked) == table
    shown = Tags(explore_html.copied(table)).text
    assert table in shown
    assert "the LRU the classic one" in shown


WORLDS = [
    {"arch": arch, "lru": lru, **given}
    for arch in MEASURED_ARCHES
    for lru in LRUS
    for given in ({"order": 3}, {"folios": "0:0.2,4:0.5,9:0.3"}, {"mapped_by": 3})
]


@pytest.mark.parametrize("given", WORLDS)
def test_all_that_an_answer_simulates_is_started(given):
    forget_what_was_simulated()
    asked = Explore(map_size="32M", reclaim_size="16M", **given)
    explore.warm(asked.arch)
    wait(explore.start(asked))
    nr_simulated = timing.simulated.cache_info().misses
    explore.answer(asked)
    assert timing.simulated.cache_info().misses == nr_simulated


@pytest.mark.parametrize(
    "given",
    [
        {"map_size": "10G", "reclaim_size": "8G", "mapped_by": 2},
        {"map_size": "1T", "reclaim_size": "1M", "mapped_by": 1024},
        {"folios": ",".join(f"{order}:0.1" for order in range(10)), "mapped_by": 1024},
    ],
)
def test_a_smaller_request_has_the_same_shares(given):
    asked = Explore(**given)
    small = explore.smaller(asked)
    same = ("arch", "before", "after", "lru", "order", "folios")
    assert [getattr(small, name) for name in same] == [getattr(asked, name) for name in same]
    assert explore.at_once(small)
    assert not explore.at_once(asked)
    assert small.world.map_bytes >= 8 << 20
    part = asked.world.reclaim_bytes / asked.world.map_bytes
    assert small.world.reclaim_bytes / small.world.map_bytes == pytest.approx(part, abs=0.02)


def test_a_request_that_is_small_is_its_own_smaller_one():
    assert explore.at_once(Explore(mapped_by=2))
    assert explore.smaller(Explore(mapped_by=2)) == Explore(mapped_by=2)


def test_a_profile_is_set_beside_functions_of_the_same_name():
    seen = explore.measured(read_text(PROFILE), "p.txt", "arm64", "classic")
    assert {name: value.best for name, value in seen.events.items()} == {
        "try_to_unmap_one": 22943, "mlock_folio": 7
    }  # fmt: skip
    shown = answered().events(tuple(seen.events)).set_index("function")
    assert shown.loc["mlock_folio"].tolist() == [0, 0]
    assert "try_to_unmap_one" in shown.index


def test_runs_have_a_median_and_a_range():
    runs = "".join(TIMES.replace("0.131", f"0.{ms}") for ms in (140, 131, 200))
    name, seconds = explore.measured(read_text(runs), "t.txt", "arm64", "classic").seconds
    assert name == "real"
    assert tuple(seconds) == (0.131, 0.14, 0.2)


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_text_of_a_capture_is_escaped():
    seen = explore.measured(read_text(TIMES, HOSTILE), HOSTILE, "arm64", "classic")
    seen = replace(seen, events={HOSTILE: seen.seconds[1]}, seconds=(HOSTILE, seen.seconds[1]))
    page = explore_html.page(answered(), seen, f"{HOSTILE}: refused")
    tags = Tags(page)
    assert "script" not in dict(tags.tags)
    assert tags.text.count(HOSTILE) == 4  # as a message, a function, a metric and a note
    assert "script" not in dict(Tags(explore_html.copied(HOSTILE)).tags)


def rectangles(page):
    rows = page.split("<tr>")[1:]
    return [re.findall(r'<rect x="(\S+)" y="\S+" width="(\S+)%"', row) for row in rows]


def test_bars_start_at_zero_and_are_as_long_as_what_they_say():
    found = answered()
    page = explore_html.page(found)
    *_, (old, new) = [row for row in rectangles(page) if row][:3]
    assert old[0] == new[0] == "0"
    shown = found.events().iloc[0]
    assert float(new[1]) / float(old[1]) == pytest.approx(shown.after / shown.before, rel=1e-3)


def test_every_cost_and_reduction_has_its_interval():
    rows = explore_html.page(answered()).split("<tr>")[1:5]
    assert [row.count('stroke-width="1.5"/>') >= 1 for row in rows] == [True] * 4
    assert "measured" not in "".join(rows)


def test_kernels_are_told_apart_without_colour():
    pages = {k: explore_html.page(answered(before=k)) for k in FILE_SERIES if k != "unmap"}
    drawn = {k: re.search(r'<path d="([^"]+)"', page)[1] for k, page in pages.items()}
    assert len(set(drawn.values())) == 3
    for kernel, page in pages.items():
        assert f"W/o: {kernel}" in page
        assert "W/: unmap" in page


@pytest.fixture(scope="module")
def explorer():
    return Explorer(Explore())


@pytest.fixture
def fresh(explorer):
    yield explorer
    for name, value in vars(Explore()).items():
        if name in explorer.controls:
            explorer.controls[name].value = value


MOVES = {
    "arch": "x86_64", "before": "base", "after": "unmap-only", "lru": "mglru", "order": 7,
    "folios": "0:0.2,4:0.8", "map_size": "64M", "reclaim_size": "32M", "mapped_by": 3,
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), MOVES.items())
def test_each_control_redraws_the_view(fresh, name, value):
    view, message = fresh.view.value, fresh.message.value
    fresh.controls[name].value = value
    assert fresh.answer == answered(**{name: value})
    assert fresh.view.value == explore_html.page(fresh.answer) != view
    # The table is by folio size, of the published request.
    assert (fresh.message.value != message) == (name in ("arch", "before", "after"))
    assert escape(explore.message(fresh.answer.asked)) in fresh.message.value


def test_what_takes_long_is_drawn_of_a_smaller_request_first(fresh):
    forget_what_was_simulated()
    asked = Explore(map_size="1G", reclaim_size="0.8G", folios="0:0.5,4:0.5", mapped_by=16)
    seen = []

    async def moved():
        for name in ("folios", "map_size", "reclaim_size", "mapped_by"):
            fresh.controls[name].value = getattr(asked, name)
        seen.append(fresh.view.value)
        fresh.controls["map_size"].value = "much"  # is refused, and changes nothing of it
        while fresh.drawing:
            await asyncio.sleep(0.01)

    asyncio.run(moved())
    small = explore.answer(explore.smaller(asked))
    first = explore_html.page(small, waited_for="0.8G of 1G, mapped by 16 processes")
    assert seen == [first]
    assert explore.request(small.asked) in Tags(first).text
    assert "0.8G of 1G, mapped by 16 processes is still being simulated" in Tags(first).text
    assert "expected a size" in fresh.view.value
    assert fresh.answer == answered(**vars(asked))
    fresh.controls["map_size"].value = "1G"
    assert fresh.view.value == explore_html.page(fresh.answer)
    fresh.controls["mapped_by"].value = 1

    async def back():  # what has been drawn whole once is so again
        fresh.controls["mapped_by"].value = 16
        return fresh.view.value

    assert asyncio.run(back()) == explore_html.page(answered(**vars(asked)))


def test_a_table_of_other_kernels_is_written_meanwhile(fresh):
    forget_what_was_simulated()
    seen = []

    async def moved():
        fresh.controls["before"].value = "base"
        seen.append(fresh.message.value)
        while fresh.drawing:
            await asyncio.sleep(0.01)

    asyncio.run(moved())
    assert seen == [explore_html.copied("")]
    assert 'button type="button" class="jp-Button jupyter-button"' in seen[0]
    assert " disabled" in seen[0]
    assert fresh.message.value == explore_html.copied(explore.message(fresh.answer.asked))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("folios", "4:0.5", "expected orders with their shares"),
        ("map_size", "much", "map_size &#x27;much&#x27;: expected a size"),
        ("reclaim_size", "1", "less than one page"),
        ("after", "references", "expected two kernels"),
        ("capture", "/no/such", "found no readable file"),
    ],
)
def test_a_refused_value_leaves_the_last_answer(fresh, name, value, said):
    before = fresh.answer
    fresh.controls[name].value = value
    assert said in fresh.view.value
    assert "allowed:" not in fresh.view.value
    assert fresh.answer == before
    assert before.finding in Tags(fresh.view.value).text
    fresh.controls[name].value = getattr(Explore(), name)
    assert said not in fresh.view.value


def test_a_refused_capture_stays_refused_while_controls_move(fresh):
    fresh.controls["capture"].value = "/no/such"
    fresh.controls["order"].value = 2
    assert "found no readable file" in fresh.view.value


def test_a_capture_of_a_path_stands_beside(fresh, tmp_path):
    (tmp_path / "t.txt").write_text(TIMES)
    fresh.controls["capture"].value = str(tmp_path / "t.txt")
    assert "measured (real) 131.0" in fresh.view.value
    fresh.controls["arch"].value = "x86_64"
    assert "measured (real) 131.0" in fresh.view.value


@pytest.mark.parametrize(
    ("text", "said"), [(TIMES, "measured (real) 131.0"), (REFUSED, "found no")]
)
def test_an_upload_stands_beside(explorer, text, said):
    content = memoryview(text.encode())
    file = {
        "name": HOSTILE, "type": "", "size": len(content), "content": content,
        "last_modified": datetime.now(UTC),
    }  # fmt: skip
    explorer.upload.set_trait("value", (file,))
    assert said in explorer.view.value
    assert "<script" not in explorer.view.value
    assert HOSTILE in Tags(explorer.view.value).text
    explorer.controls["capture"].value = "/no/such"
    explorer.controls["capture"].value = ""


def test_every_control_has_a_label(explorer):
    assert all(control.description for control in explorer.controls.values())
    assert explorer.upload.description


def test_parameters_are_refused_before_anything_runs():
    with pytest.raises(ParamsError, match="map 65536 bytes: smaller than one order-9 folio"):
        Explore(map_size="64K", order=9)

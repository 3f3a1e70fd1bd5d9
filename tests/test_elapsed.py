# SPDX-License-Identifier: GPL-2.0-only
import numpy as np
import pandas as pd
import pytest

from analysis import elapsed, fit, measurements
from sim import FILE_SERIES, World, reclaim

SECONDS = {"base": 1.518, "references": 1.018, "unmap": 0.249}
HOST_ORDERS = {"file": (0, 1, 2, 4, 5, 7, 8), "lazyfree": (0, 2, 4, 5, 7, 8)}


@pytest.fixture
def sweep(monkeypatch):
    """Return a function that changes the host's runs."""
    runs = measurements.host_sweep()
    return lambda change: monkeypatch.setattr(measurements, "host_sweep", lambda: change(runs))


def fresh_page_ns():
    return elapsed.host_page_ns.__wrapped__()


def instructions(kernel, order, arch="arm64"):
    world = World(map_bytes=10 << 30, reclaim_bytes=8 << 30, order=order)
    return fit.fit(arch).instructions(reclaim(world, arch, kernel))


def test_the_published_seconds_are_those_of_the_series():
    assert elapsed.published_seconds() == SECONDS
    assert elapsed.published_seconds("sys") == SECONDS
    assert set(elapsed.published_seconds("user").values()) == {0.0}
    assert elapsed.published_check_share() == (0.35, 0.05)


def test_implied_prices_at_order_6_by_hand():
    price = elapsed.implied_prices().loc[6]
    base, references, unmap = (instructions(kernel, 6) for kernel in SECONDS)
    assert price["references"] == pytest.approx((1.518 - 1.018) * 1e9 / (base - references))
    assert price["unmap"] == pytest.approx((1.018 - 0.249) * 1e9 / (references - unmap))
    assert price["remainder"] == pytest.approx(0.249 * 1e9 / unmap)
    # folio_check_references() at most 5.5% of 1.018 s, over what it executes.
    events = reclaim(
        World(map_bytes=10 << 30, reclaim_bytes=8 << 30, order=6), "arm64", "references"
    )
    model = fit.fit("arm64")
    table = model.table()
    priced = table["instructions"] * model.counts(events)[model.seen]
    check = priced[table["part"] == "check"].sum()
    assert price["check"] == pytest.approx(0.055 * 1.018 * 1e9 / check)


def test_an_order_is_consistent_if_a_processor_can_have_its_prices():
    prices = elapsed.implied_prices()
    assert list(prices.index) == list(range(1, 9))
    four = prices[["references", "unmap", "remainder", "check"]]
    possible = ((four >= 0.1) & (four <= 1.5)).all(axis=1)
    assert prices["consistent"].tolist() == possible.tolist()
    assert prices["consistent"].any()
    assert not prices["consistent"].all()


def test_each_arm64_scenario_gives_back_the_published_seconds_at_its_order():
    prices = elapsed.implied_prices()
    orders = [int(s.name.rpartition(" ")[2]) for s in elapsed.scenarios("arm64")]
    assert sorted(orders) == list(prices.index[prices["consistent"]])
    for order, scenario in zip(orders, elapsed.scenarios("arm64"), strict=True):
        for kernel, seconds in SECONDS.items():
            assert scenario.seconds(kernel, order) == pytest.approx([seconds], rel=1e-9)


def test_the_best_arm64_scenario_is_the_middle_of_the_consistent_orders():
    prices = elapsed.implied_prices()
    middle = np.median(prices.index[prices["consistent"]])
    assert abs(int(elapsed.scenarios("arm64")[0].name.rpartition(" ")[2]) - middle) <= 0.5


def test_scenarios_differ_in_name():
    for arch in ("arm64", "x86_64"):
        names = [scenario.name for scenario in elapsed.scenarios(arch)]
        assert len(set(names)) == len(names) > 1


@pytest.mark.parametrize("arch", ["arm64", "x86_64"])
@pytest.mark.parametrize("order", range(1, 9))
def test_every_scenario_takes_time_and_a_batch_never_adds_any_to_unmapping(arch, order):
    for scenario in elapsed.scenarios(arch):
        seconds = {kernel: scenario.seconds(kernel, order) for kernel in FILE_SERIES}
        assert all((taken > 0).all() for taken in seconds.values())
        assert seconds["unmap"][0] < seconds["references"][0]
        assert seconds["unmap-only"][0] < seconds["base"][0]


def test_orders_that_the_host_ran_keep_their_median_exactly():
    runs = measurements.host_sweep()
    for workload, orders in HOST_ORDERS.items():
        for order in orders:
            own = runs[(runs["workload"] == workload) & (runs["order"] == order)]
            median = (own["cpu_s"] / own["pages"]).median() * 1e9
            assert elapsed.host_page_ns()[workload][0, order] == pytest.approx(median, rel=1e-12)


def test_orders_that_the_host_did_not_run_lie_on_the_line_between_logs():
    for workload in HOST_ORDERS:
        best = elapsed.host_page_ns()[workload][0]
        assert best[3] == pytest.approx(np.sqrt(best[2] * best[4]))
        assert best[6] == pytest.approx(np.sqrt(best[5] * best[7]))
    lazyfree = elapsed.host_page_ns()["lazyfree"][0]
    assert lazyfree[1] == pytest.approx(np.sqrt(lazyfree[0] * lazyfree[2]))


def test_the_draws_are_the_same_in_every_run():
    for workload, page_ns in fresh_page_ns().items():
        assert page_ns.shape == (elapsed.DRAWS + 1, 9)
        assert np.array_equal(page_ns, elapsed.host_page_ns()[workload])


def test_draws_stay_within_what_was_measured_and_scatter():
    runs = measurements.host_sweep()
    runs = runs.assign(ns=runs["cpu_s"] / runs["pages"] * 1e9)
    ends = runs.groupby(["workload", "order"])["ns"].agg(["min", "max"])
    for workload, orders in HOST_ORDERS.items():
        for order in orders:
            drawn = elapsed.host_page_ns()[workload][1:, order]
            low, high = ends.loc[(workload, order)]
            # Interpolation takes a logarithm and its inverse.
            assert low * (1 - 1e-12) <= drawn.min() < drawn.max() <= high * (1 + 1e-12)


def test_rounds_alike_leave_nothing_to_sample(sweep):
    sweep(lambda runs: runs.assign(cpu_s=runs["order"] * 0.001 + 0.01))
    for page_ns in fresh_page_ns().values():
        assert page_ns == pytest.approx(np.tile(page_ns[0], (elapsed.DRAWS + 1, 1)))


def test_a_round_is_drawn_whole(sweep):
    def twice(runs):
        shared = runs[runs["workload"] == "file"]
        lazyfree = shared.assign(workload="lazyfree", cpu_s=shared["cpu_s"] * 2)
        return pd.concat([shared, lazyfree], ignore_index=True)

    sweep(twice)
    page_ns = fresh_page_ns()
    assert page_ns["lazyfree"] == pytest.approx(2 * page_ns["file"])


def test_host_prices_by_hand():
    file_ns, lazyfree_ns = (elapsed.host_page_ns()[w][0, 8] for w in ("file", "lazyfree"))
    profile = measurements.load("host/profile_order8.csv").set_index("function")["share_percent"]
    flush_ns = file_ns * profile["flush_tlb_mm_range"] / 100
    assert elapsed.flush_ns() == pytest.approx(flush_ns)
    references, unmap = (instructions(kernel, 8, "x86_64") for kernel in ("references", "unmap"))
    per_page = (references - unmap) / (8 * 2**18)
    low, high = elapsed.host_prices(fit.fit("x86_64"))
    assert low == pytest.approx((file_ns - lazyfree_ns - flush_ns) / per_page)
    assert high == pytest.approx((file_ns - lazyfree_ns) / per_page)
    assert elapsed.FASTEST_NS <= low < high <= elapsed.SLOWEST_NS


def test_without_reference_checks_x86_64_takes_what_the_host_took():
    # What scanning adds is the same with and without batched unmapping: the host's own difference.
    page_ns = elapsed.host_page_ns()
    removal = (page_ns["file"][:, 0] - page_ns["lazyfree"][:, 0]) / 2**8
    batched = page_ns["lazyfree"][:, 8] + removal
    expected = (page_ns["file"][:, 8] - batched) * 1e-9 * 8 * 2**18
    flushing = [s for s in elapsed.scenarios("x86_64") if "at each removal" in s.name]
    assert len(flushing) == 2
    for scenario in flushing:
        saved = scenario.seconds("references", 8) - scenario.seconds("unmap", 8)
        assert saved == pytest.approx(expected, rel=1e-9)


def test_request_instructions_are_the_sum_of_their_parts():
    for kernel in FILE_SERIES:
        whole = elapsed.request_instructions(fit.fit("arm64"), kernel, 4)
        check = elapsed.request_instructions(fit.fit("arm64"), kernel, 4, elapsed.CHECK)
        other = elapsed.request_instructions(fit.fit("arm64"), kernel, 4, ~elapsed.CHECK)
        assert whole == pytest.approx(check + other)
        assert whole == pytest.approx(instructions(kernel, 4))

"""Tallies: histograms that add up, plans fitted to them, and what these are worth on other data."""

import numpy as np
import pytest

from fewbits import Lossless
from fewbits.lossless.adaptive import FIRST_FIT_BYTES, REFIT_FACTOR, AdaptivePlan
from fewbits.lossless.profiling import Tally, untabled
from fewbits.values.types import dtype_named, layout_of

NAMES = ["int8", "uint16", "bfloat16", "float32", "float64", "int64", "int4"]


def raw(seed, scale=40, n=8000):
    return np.random.default_rng(seed).normal(0, scale, n).astype(np.int8).view(np.uint8)


def tallied(name, *parts):
    tally = Tally(layout_of(dtype_named(name)))
    for part in parts:
        tally.add(part)
    return tally


@pytest.mark.parametrize("name", NAMES)
def test_histograms_of_every_cut_are_those_of_the_data(name):
    data = raw(0)
    added, merged = tallied(name, data[:4000], data[4000:]), tallied(name, data[:4000])
    merged.merge(tallied(name, data[4000:]))
    assert added.elements == merged.elements == data.size // added._layout.element_bytes
    for tally in (added, merged):
        for bare, histograms in tally._cuts():
            for index, histogram in enumerate(histograms):
                assert np.array_equal(bare.histograms(index, data)[0], histogram), bare.remap


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("coder", ["rans", "arithmetic"])
def test_price_is_about_what_packing_takes(name, coder):
    data = raw(1, scale=6, n=400_000)
    tally = tallied(name, data)
    plan = tally.plan(Lossless(coder=coder))
    payload = plan.kernel.pack(plan.arrangement(data.size), data, 1)[0].size
    assert payload * 0.98 < tally.price(plan) / 8 < payload * 1.001
    assert tally.price(untabled(layout_of(dtype_named(name)))) == 8 * data.size


def test_spare_bits_are_those_that_other_counts_would_save():
    tally, other = tallied("uint8", raw(2, scale=6)), tallied("uint8", raw(3, scale=9))
    plan = tally.plan(Lossless(count_bits=9))
    assert 0 <= tally.spare(plan) < 0.001 * tally.price(plan)
    (table,) = plan.planes[0].tables
    (histogram,) = other._planes_of(plan)
    rows = np.add.reduceat(histogram, table.starts)
    told, found = np.array(table.counts) / 512, rows / rows.sum()
    seen = found > 0
    divergence = rows.sum() * (found[seen] * np.log2(found[seen] / told[seen])).sum()
    assert other.spare(plan) == pytest.approx(divergence)
    assert other.price(other.plan(Lossless())) < other.price(plan) - 0.9 * other.spare(plan)


def test_plan_follows_at_first_and_when_data_change():
    def renewals(pieces):
        adaptive = AdaptivePlan(layout_of(np.dtype("int8")), Lossless())
        return [number for number, piece in enumerate(pieces) if adaptive.renewed_for(piece)]

    alike = [raw(seed, scale=6, n=FIRST_FIT_BYTES // 2) for seed in range(64)]
    assert renewals(alike)[0] == 1
    assert set(renewals(alike)) <= {1, *(2 * REFIT_FACTOR**n - 1 for n in range(4))}
    changed = [raw(seed, scale=30, n=40_000) for seed in range(3)]
    assert renewals([*changed[:1], *[raw(9, scale=3, n=40_000)] * 2]) == [0, 1]
    assert renewals([np.zeros(40_000, np.uint8)] * 9) == []


def test_small_pieces_wait_but_count():
    layout, pieces = layout_of(np.dtype("uint16")), [raw(seed, n=500) for seed in range(200)]
    adaptive = AdaptivePlan(layout, Lossless())
    for piece in pieces:
        adaptive.renewed_for(piece)
        piece[:] = 0  # the caller may use its memory again
        assert sum(part.size for part in adaptive._recent) < 1 << 14
    whole = tallied("uint16", *(raw(seed, n=500) for seed in range(200)))
    adaptive._counted(np.empty(0, np.uint8))
    assert np.array_equal(adaptive._tally._histograms[0], whole._histograms[0])

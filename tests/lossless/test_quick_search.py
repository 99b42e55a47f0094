"""The searches and counts that packing uses: as good as the plain ones, on any processor."""

from functools import partial
from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fewbits
from fewbits import PackedTensor, _kernels
from fewbits.lossless.counts import exact_counts, paper_counts
from fewbits.lossless.histogram import Histogram
from fewbits.lossless.plan import Mode

ROWS = st.lists(
    st.one_of(st.just(0), st.integers(0, 4), st.integers(0, 10**12)), min_size=1, max_size=64
)


@pytest.fixture
def any_simd():
    """Calls a function once for each instruction set; all must give the same."""
    before = _kernels.simd()

    def call(function):
        results = []
        for name in _kernels.available_simd():
            _kernels.set_simd(name)
            results.append(function())
        assert all(result == results[0] for result in results)
        return results[0]

    yield call
    _kernels.set_simd(before)


def size_of(counts: Histogram, starts: list[int], lengths: list[int], total: int, verbatim: int):
    """What RowCost in kernels/search.hpp charges."""
    n, size = counts.sum(), 0.0
    for row, occurrences in enumerate(np.add.reduceat(counts, starts)):
        if occurrences < n / total:
            size += occurrences * log2(total) + (n / total - occurrences) / np.log(2)
        else:
            size += occurrences * log2(n / occurrences)
        size += occurrences * max(lengths[row], verbatim)
    return size


@pytest.mark.parametrize("width", [3, 8, 9])
@pytest.mark.parametrize("present", [1.0, 0.3, 0.05])
def test_rows_are_as_cheap_as_the_plain_program_finds(any_simd, width, present):
    rng = np.random.default_rng([width, int(100 * present)])
    for rows, limit, verbatim in ((16, width, 0), (3, width, 0), (40, width - 1, 2), (16, 2, 0)):
        counts = rng.integers(1, 1000, 1 << width) * (rng.random(1 << width) < present)
        counts = (counts * rng.exponential(1, counts.size) ** 3).astype(np.int64)
        counts[rng.integers(counts.size)] += 5000
        plain = _kernels.optimal_rows(counts, rows, 1024, False, limit, verbatim, False)
        quick = any_simd(partial(_kernels.quick_rows, counts, rows, 1024, limit, verbatim))
        assert bool(quick[0]) == bool(plain[0])
        if quick[0]:
            assert len(quick[0]) <= rows and max(quick[1]) <= limit
            found, best = (size_of(counts, *r, 1024, verbatim) for r in (quick, plain))
            assert found <= best * (1 + 1e-5) + 1e-3


def test_rows_of_more_values_than_a_float_counts():
    counts = np.array([1 << 40, 3, 1 << 39, 5, 1 << 41, 1 << 20, 7, 0], np.int64)
    quick = _kernels.quick_rows(counts, 4, 1 << 16, 3, 0)
    plain = _kernels.optimal_rows(counts, 4, 1 << 16, False, 3, 0, False)
    assert size_of(counts, *quick, 1 << 16, 0) <= size_of(counts, *plain, 1 << 16, 0) * (1 + 1e-5)


@settings(max_examples=200, deadline=None)
@given(occurrences=ROWS, bits=st.integers(6, 16))
def test_counts_are_those_of_the_python_form(occurrences, bits):
    assert tuple(_kernels.exact_counts(occurrences, 1 << bits)) == exact_counts(
        occurrences, 1 << bits
    )
    if sum(n > 0 for n in occurrences) < 1 << bits:
        assert tuple(_kernels.paper_counts(occurrences, (1 << bits) - 1)) == paper_counts(
            occurrences, (1 << bits) - 1
        )


def test_more_rows_than_counts_are_refused():
    with pytest.raises(ValueError, match="more rows than counts"):
        _kernels.exact_counts([1] * 9, 8)


@pytest.mark.parametrize("dtype", ["int8", "bfloat16", "float32"])
def test_what_is_rare_in_a_large_tensor_has_a_row_all_the_same(any_simd, dtype):
    # Large tensors are counted in part. Were a value left out of its table, its block would be raw.
    import ml_dtypes

    rng = np.random.default_rng(3)
    scale = rng.uniform(1, 9, (5000, 1))
    values = rng.standard_normal((5000, 160)) * scale
    values[rng.integers(5000, size=40), rng.integers(160, size=40)] *= 30
    values = np.clip(values.round(), -127, 127) if dtype == "int8" else values
    array = values.astype(getattr(ml_dtypes, dtype, dtype))
    frame = any_simd(lambda: fewbits.pack(array))
    header = PackedTensor.of(frame).header
    planes = len(header.plan.planes)
    assert header.plan.classes is not None
    assert not (header.modes.reshape(-1, planes)[:, 0] == Mode.RAW).any()
    assert fewbits.unpack(frame).tobytes() == array.tobytes()
    assert header.frame_bytes < 1.01 * header.entropy_bits / 8 * array.size

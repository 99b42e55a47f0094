"""The plan that is chosen suits the tensor, and its price is what it then costs."""

import ml_dtypes
import numpy as np
import pytest

import fewbits
from fewbits import Lossless, PackedTensor
from fewbits.lossless.choose import choose
from fewbits.lossless.plan import Coder, Mode
from fewbits.values.types import Remap, layout_of, to_storage

RNG = np.random.default_rng(0)
N = 200_000
TENSORS = {
    "laplace int8": np.clip(RNG.laplace(0, 8, N), -127, 127).astype(np.int8),
    "relu uint8": (np.maximum(RNG.standard_normal(N), 0) * 40).astype(np.uint8),
    "bf16": (RNG.standard_normal(N) * 0.02).astype(ml_dtypes.bfloat16),
    "fp16": (RNG.standard_normal(N) * 0.02).astype(np.float16),
    "fp32": (RNG.standard_normal(N) * 0.02).astype(np.float32),
    "fp8": RNG.standard_normal(N).astype(ml_dtypes.float8_e4m3fn),
    "small int16": RNG.geometric(0.05, N).astype(np.int16),
    "positive bf16": RNG.random(N).astype(ml_dtypes.bfloat16),
    "sparse bf16": np.where(RNG.random(N) < 0.9, 0, RNG.random(N)).astype(ml_dtypes.bfloat16),
}


def plan_of(array, **settings):
    return PackedTensor.of(fewbits.pack(array, Lossless(**settings))).header.plan


@pytest.mark.parametrize("coder", ["rans", "arithmetic"])
@pytest.mark.parametrize("name", TENSORS)
def test_price_is_what_the_frame_costs(name, coder):
    array = TENSORS[name]
    choice = choose(to_storage(array), layout_of(array.dtype), Lossless(coder=coder))
    header = PackedTensor.of(fewbits.pack(array, Lossless(coder=coder))).header
    tables = sum(len(t.to_bytes()) for plane in header.plan.planes for t in plane.tables)
    cost = 8 * (int(header.lengths.sum()) + tables)
    lane_bits = 8 * 512 * header.blocks * len(header.plan.planes)  # states, or padding of streams
    assert choice.price_bits * 0.999 <= cost <= choice.price_bits * 1.002 + lane_bits


@pytest.mark.parametrize("name", TENSORS)
def test_whole_frame_is_close_to_the_order_0_entropy(name):
    array = TENSORS[name]
    header = PackedTensor.of(fewbits.pack(array)).header
    entropy_bytes = header.entropy_bits * N / 8
    slack = 0.012 if array.dtype.itemsize > 1 else 0.006
    if name == "fp8":
        slack = 0.02  # 16 rows are few for 8-bit floats
    assert entropy_bytes <= header.frame_bytes <= entropy_bytes * (1 + slack) + 900


def test_signed_values_get_zigzag_and_unsigned_ones_stay():
    assert plan_of(TENSORS["laplace int8"]).remap == Remap.ZIGZAG
    assert plan_of(TENSORS["relu uint8"]).remap == Remap.IDENTITY
    assert plan_of(TENSORS["bf16"]).remap == Remap.SIGN_TO_LSB
    assert plan_of(TENSORS["positive bf16"]).remap == Remap.IDENTITY


def test_widened_floats_cost_no_more_than_the_narrow_ones():
    narrow = len(fewbits.pack(TENSORS["bf16"]))
    assert len(fewbits.pack(TENSORS["bf16"].astype(np.float32))) <= narrow + 200
    assert len(fewbits.pack(TENSORS["bf16"].astype(np.float64))) <= narrow * 1.05


def test_sparse_tensors_take_little_more_than_what_is_not_zero():
    zeros = np.zeros(4_000_000, np.int8)
    zeros[::5000] = RNG.integers(1, 100, 800)
    header = PackedTensor.of(fewbits.pack(zeros)).header
    assert set(header.modes) == {Mode.SPARSE}
    assert header.lengths.sum() < 800 * 3  # a byte for the value, 14 bits for where it is


def test_exact_zeros_among_floats_do_not_pay_for_verbatim_bits():
    plane = plan_of(TENSORS["sparse bf16"]).planes[0]
    assert plane.verbatim_bits == 0
    assert plane.coder == Coder.RANS


@pytest.mark.parametrize("name", ["laplace int8", "bf16", "fp8"])
def test_more_rows_never_cost_more(name):
    sizes = [len(fewbits.pack(TENSORS[name], Lossless(rows=rows))) for rows in (4, 16, 64)]
    assert sizes[0] > sizes[1] >= sizes[2] - 192  # headers are padded to multiples of 64 bytes


def test_settings_bound_the_tables():
    for rows, count_bits in ((1, 8), (3, 9), (16, 16), (200, 12)):
        for table in plan_of(TENSORS["fp8"], rows=rows, count_bits=count_bits).planes[0].tables:
            assert table.rows <= rows
            assert table.count_bits == count_bits


def test_heuristic_search_is_the_papers_and_never_beats_the_optimal_one():
    for name in ("laplace int8", "relu uint8"):
        paper = PackedTensor.of(
            fewbits.pack(TENSORS[name], Lossless(search="paper", count_bits=10))
        ).header
        optimal = len(fewbits.pack(TENSORS[name], Lossless(count_bits=10)))
        assert paper.plan.planes[0].tables[0].unused_counts == 1
        assert optimal <= paper.frame_bytes


@pytest.mark.parametrize("coder", ["rans", "arithmetic"])
@pytest.mark.parametrize("name", ["laplace int8", "relu uint8", "fp16"])
def test_heuristic_search_costs_a_few_percent_at_most(name, coder):
    array = TENSORS[name]
    paper, optimal = (
        fewbits.pack(array, Lossless(search=search, coder=coder, rows=16, count_bits=10))
        for search in ("paper", "optimal")
    )
    assert len(paper) < 1.03 * len(optimal)
    assert np.array_equal(
        to_storage(fewbits.unpack(paper)), to_storage(array)
    )  # also where its search passed over low bits

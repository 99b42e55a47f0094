import importlib.util

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbits.machines.parts.systolic import DATAFLOWS, Array, Gemm, spread

#: (M, K, N, rows, columns): cycles of SCALE-Sim 3.0.0 under os, ws, is ("Total Cycles" of its
#: COMPUTE_REPORT.csv, bandwidth calculated, 1 MB of each SRAM).
SCALE_SIM = {
    (512, 64, 512, 128, 32): (14207, 12767, 12767),
    (128, 1024, 1024, 128, 32): (37823, 105983, 41919),
    (1, 64, 512, 128, 32): (3551, 4591, 797),
    (197, 96, 33, 16, 8): (7669, 7049, 10649),
    (31, 7, 45, 8, 8): (503, 317, 267),
}

sides = st.integers(1, 200)
gemms = st.builds(Gemm, sides, sides, sides, st.integers(1, 40))
arrays = st.builds(Array, st.integers(1, 130), st.integers(1, 40))


@pytest.mark.parametrize("case", SCALE_SIM, ids=str)
def test_cycles_are_those_of_scale_sim(case):
    m, k, n, rows, columns = case
    cycles = [Array(rows, columns).cycles(Gemm(m, k, n), dataflow) for dataflow in DATAFLOWS]
    assert tuple(cycles) == SCALE_SIM[case]


def test_one_fold_by_hand():
    # 2x2 outputs of 3 products each, on 2x2 elements: the last starts 2 cycles late, 3 products,
    # and the results move out over 2 rows: 2 + 2 + 3 - 2 = 5, counted from 0.
    assert Array(2, 2).cycles(Gemm(2, 3, 2), "os") == 4
    # Two columns of folds take twice as long.
    assert Array(2, 2).cycles(Gemm(2, 3, 4), "os") == 9


@given(gemms, arrays)
def test_no_array_beats_its_peak(gemm, array):
    cycles, dataflow = array.best(gemm)
    assert dataflow in DATAFLOWS
    assert (cycles + 1) * array.rows * array.columns * gemm.count >= gemm.macs


@given(gemms, arrays, st.integers(1, 20))
def test_more_arrays_are_never_slower(gemm, array, count):
    one, many = (spread([gemm], array, arrays_) for arrays_ in (count, 2 * count))
    assert many <= one
    assert many * 2 * count * array.rows * array.columns >= gemm.macs


def test_a_product_of_one_row_is_cut_along_its_columns():
    # 1 x 64 times 64 x 1024 on 8 arrays of 64 x 32: eight pieces of 128 columns each
    array = Array(64, 32)
    assert spread([Gemm(1, 64, 1024)], array, 8) == array.best(Gemm(1, 64, 128))[0] + 1
    assert spread([Gemm(1, 64, 1024, 8)], array, 8) == array.best(Gemm(1, 64, 1024))[0] + 1


@given(gemms, arrays)
def test_operands_are_at_least_those_of_the_matrices(gemm, array):
    least = gemm.count * (gemm.m * gemm.k + gemm.k * gemm.n + gemm.m * gemm.n)
    assert array.operands(gemm) >= least
    whole = Array(gemm.k, gemm.n)
    assert whole.operands(gemm) == least


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="k of a matrix product is 0"):
        Gemm(1, 0, 1)
    with pytest.raises(ValueError, match="0x3 elements"):
        Array(0, 3)
    with pytest.raises(ValueError, match="no dataflow 'rs'; there are os, ws, is"):
        Array(2, 2).cycles(Gemm(1, 1, 1), "rs")


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("scalesim") is None, reason="scalesim is not installed (numpy < 2)"
)
def test_against_the_package(tmp_path, monkeypatch):  # pragma: no cover - optional
    from scale_sim_oracle import cycles_of

    monkeypatch.chdir(tmp_path)
    for m, k, n in ((70, 90, 50), (9, 130, 65)):
        for dataflow in DATAFLOWS:
            assert cycles_of(m, k, n, 16, 8, dataflow) == Array(16, 8).cycles(
                Gemm(m, k, n), dataflow
            )

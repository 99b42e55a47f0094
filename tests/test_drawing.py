"""The picture of a table: right shape, right rows, at any width."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbits import RangeTable, find_table
from fewbits.drawing import ASCII_BLOCKS, draw


def bell(values: int = 256) -> np.ndarray:
    axis = np.linspace(-4, 4, values)
    return np.round(1e4 * np.exp(-(axis**2) / 2)).astype(np.int64)


def test_a_column_a_value() -> None:
    picture = draw(np.array([4, 2, 0, 1]), None, width=4, height=4, scale="linear")
    assert picture.bars == ("█   ", "█   ", "██  ", "██ █")
    assert (picture.low, picture.high, picture.left, picture.right) == (0, 3, 0.0, 0.0)


def test_few_values_take_several_columns() -> None:
    picture = draw(np.array([1, 1]), None, width=7, height=1)
    assert picture.bars == ("██████",)


def test_a_bell_rises_and_falls() -> None:
    picture = draw(bell(), None, width=64, height=8)
    assert picture.bars[0].strip() and picture.bars[0].index("█") > 20
    filled = ["".join(column).count("█") for column in zip(*picture.bars, strict=True)]
    top = filled.index(max(filled))
    assert filled[:top] == sorted(filled[:top])
    assert filled[top:] == sorted(filled[top:], reverse=True)


def test_columns_belong_to_the_row_that_holds_their_values() -> None:
    table = RangeTable(2, 3, starts=(0, 1), offset_lengths=(0, 2), counts=(6, 2))
    picture = draw(np.array([6, 0, 1, 1]), table, width=8)
    assert picture.owners == (0, 0, 1, 1, 1, 1, 1, 1)
    assert picture.ruler() == ("| |     ", "0 1     ")


def test_owners_ascend_over_a_whole_table() -> None:
    histogram = bell()
    picture = draw(histogram, find_table(histogram), width=76)
    assert list(picture.owners) == sorted(picture.owners)
    assert len(set(picture.owners)) > 8


def test_labels_of_narrow_rows_do_not_run_together() -> None:
    histogram = bell()
    ticks, labels = draw(histogram, find_table(histogram), width=40).ruler()
    assert len(ticks) == len(labels) == 40
    numbers = [int(text) for text in labels.split()]
    assert numbers == sorted(set(numbers)) and max(numbers) <= 15


def test_thin_tails_and_lone_zeros_are_left_out_but_told() -> None:
    histogram = np.zeros(1 << 16, np.int64)
    histogram[0] = 500
    histogram[30_000:31_000] = 10
    histogram[60_000] = 1
    picture = draw(histogram, None)
    assert picture.low >= 30_000 and picture.high < 31_100
    assert picture.left >= 500 / histogram.sum() and picture.right > 0


def test_spikes_are_drawn_logarithmically() -> None:
    histogram = np.ones(256, np.int64)
    histogram[7] = 10_000
    assert draw(histogram, None).logarithmic
    assert not draw(histogram, None, scale="linear").logarithmic
    assert not draw(bell(), None).logarithmic


def test_plain_characters_where_the_terminal_has_no_others() -> None:
    picture = draw(bell(), None, blocks=ASCII_BLOCKS)
    assert all(line.isascii() for line in picture.bars)


def test_nothing_to_draw() -> None:
    picture = draw(np.zeros(16, np.int64), None, width=16, height=3)
    assert picture.bars == (" " * 16,) * 3


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 1000), min_size=16, max_size=16),
    st.integers(1, 100),
    st.integers(1, 20),
    st.sampled_from(["auto", "linear", "log"]),
)
def test_any_histogram_fits_its_frame(
    counts: list[int], width: int, height: int, scale: str
) -> None:
    histogram = np.array(counts)
    table = find_table(histogram)
    picture = draw(histogram, table, width=width, height=height, scale=scale)  # type: ignore[arg-type]
    assert len(picture.bars) == height
    assert {len(line) for line in picture.bars} == {len(picture.owners)}
    assert len(picture.owners) <= max(width, 1)
    if sum(counts):
        assert picture.left + picture.right == pytest.approx(
            1 - histogram[picture.low : picture.high + 1].sum() / sum(counts)
        )

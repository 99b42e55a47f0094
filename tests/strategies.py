"""Hypothesis strategies that more than one test file draws from."""

import numpy as np
from hypothesis import strategies as st

from fewbits import RangeTable
from fewbits.lossless.counts import exact_counts


@st.composite
def range_tables(draw, widths=(4, 8, 16), max_rows=40):
    """Any valid table: tight or covering, with empty rows, of the paper's total or the full one."""
    width = draw(st.sampled_from(widths))
    bits = draw(st.integers(8, 16))
    space = 1 << width
    rows = draw(st.integers(1, min(max_rows, space)))
    starts = draw(st.lists(st.integers(0, space - 1), min_size=rows, max_size=rows, unique=True))
    starts = sorted(starts)
    if draw(st.booleans()):
        starts[0] = 0
    lengths = []
    for start, following in zip(starts, [*starts[1:], space], strict=True):
        whole = (following - start - 1).bit_length()
        lengths.append(draw(st.integers(0, whole)) if draw(st.booleans()) else whole)
    weights = draw(st.lists(st.sampled_from([0, 1, 3, 50, 4000]), min_size=rows, max_size=rows))
    total = (1 << bits) - draw(st.integers(0, 1))
    return RangeTable(width, bits, tuple(starts), tuple(lengths), exact_counts(weights, total))


@st.composite
def tables_and_values(draw, min_size=0, max_size=300, **table_settings):
    """A table and values that it can write, spread over its rows."""
    table = draw(range_tables(**table_settings))
    live = [row for row in range(table.rows) if table.counts[row]]
    picks = draw(
        st.lists(
            st.tuples(st.sampled_from(live), st.floats(0, 1, exclude_max=True)),
            min_size=min_size,
            max_size=max_size,
        )
    )
    values = [
        table.starts[row] + int(where * (table.ends[row] - table.starts[row] + 1))
        for row, where in picks
    ]
    return table, np.array(values, np.uint16 if table.width > 8 else np.uint8)

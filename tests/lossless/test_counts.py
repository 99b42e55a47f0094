"""Integer counts: the exact ones against enumeration, the paper's against its rules."""

from math import inf, log2

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fewbits.lossless.counts import PAPER_TOTAL, exact_counts, paper_counts

row_occurrences = st.lists(
    st.one_of(st.just(0), st.integers(0, 4), st.integers(0, 10**7)), min_size=1, max_size=40
)


def coded_size(occurrences: list[int], counts: tuple[int, ...]) -> float:
    total = sum(counts)
    return sum(
        (n * log2(total / c) if c else inf) for n, c in zip(occurrences, counts, strict=True) if n
    )


def compositions(total: int, least: list[int]) -> list[tuple[int, ...]]:
    """All ways to share ``total``, with at least ``least[i]`` for part ``i``."""
    if len(least) == 1:
        return [(total,)] if total >= least[0] else []
    return [
        (first, *rest)
        for first in range(least[0], total + 1)
        for rest in compositions(total - first, least[1:])
    ]


@settings(max_examples=150, deadline=None)
@given(
    occurrences=st.lists(
        st.one_of(st.just(0), st.integers(1, 3), st.integers(1, 10**6)), min_size=1, max_size=4
    ),
    total=st.integers(4, 20),
    every_row=st.booleans(),
)
def test_exact_counts_are_as_good_as_any(
    occurrences: list[int], total: int, every_row: bool
) -> None:
    counts = exact_counts(occurrences, total, every_row=every_row)
    least = [1 if n or every_row else 0 for n in occurrences]
    best = min(coded_size(occurrences, c) for c in compositions(total, least))
    assert coded_size(occurrences, counts) == pytest.approx(best, rel=1e-9)
    assert all(c >= low for c, low in zip(counts, least, strict=True))


@settings(max_examples=150, deadline=None)
@given(occurrences=row_occurrences, bits=st.integers(6, 16), every_row=st.booleans())
@example(occurrences=[0, 0, 0], bits=8, every_row=True)
@example(occurrences=[10**7] + [1] * 39, bits=6, every_row=True)
def test_exact_counts_share_out_the_whole_total(
    occurrences: list[int], bits: int, every_row: bool
) -> None:
    counts = exact_counts(occurrences, 1 << bits, every_row=every_row)
    assert sum(counts) == 1 << bits
    for n, count in zip(occurrences, counts, strict=True):
        assert count >= 0
        assert count > 0 or not (n or every_row)


def test_exact_counts_give_nothing_to_rows_that_do_not_occur() -> None:
    assert exact_counts([0, 5, 0, 5], 8) == (0, 4, 0, 4)


def test_exact_counts_prefer_nothing_where_nothing_is_known() -> None:
    assert exact_counts([0, 0, 0, 0], 16, every_row=True) == (4, 4, 4, 4)


def test_paper_counts_are_cumulative_shares_rounded_down() -> None:
    assert paper_counts([1, 1, 1], total=1023) == (341, 341, 341)
    assert paper_counts([1, 1, 2], total=10) == (2, 3, 5)


@settings(max_examples=150, deadline=None)
@given(occurrences=row_occurrences, every_row=st.booleans())
def test_paper_counts_sum_to_the_papers_highest_and_reach_every_row_that_needs_one(
    occurrences: list[int], every_row: bool
) -> None:
    counts = paper_counts(occurrences, every_row=every_row)
    assert sum(counts) == PAPER_TOTAL
    for n, count in zip(occurrences, counts, strict=True):
        assert count >= 0
        assert count > 0 or not (n or every_row)


def test_paper_counts_are_taken_from_the_largest_row() -> None:
    assert paper_counts([10**6, 1, 0, 10**5]) == (929, 1, 0, 93)
    assert paper_counts([10**6, 1, 0, 10**5], every_row=True) == (928, 1, 1, 93)


@settings(max_examples=100, deadline=None)
@given(occurrences=row_occurrences.filter(any), every_row=st.booleans())
def test_exact_counts_are_never_worse_than_the_papers(
    occurrences: list[int], every_row: bool
) -> None:
    exact = exact_counts(occurrences, PAPER_TOTAL, every_row=every_row)
    paper = paper_counts(occurrences, PAPER_TOTAL, every_row=every_row)
    assert coded_size(occurrences, exact) <= coded_size(occurrences, paper) * (1 + 1e-9)


@pytest.mark.parametrize("assign", [exact_counts, paper_counts])
def test_more_rows_than_counts_are_refused(assign: object) -> None:
    with pytest.raises(ValueError, match="5 rows cannot share 4 counts"):
        assign([1] * 5, 4)  # type: ignore[operator]

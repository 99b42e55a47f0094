"""From how often rows occur to their integer counts.

>>> exact_counts([90, 9, 1], total=8)
(6, 1, 1)
"""

import heapq
from collections.abc import Sequence
from itertools import pairwise
from math import log2

# The paper's highest cumulative count with 10-bit counts (Table I); one code of 1024 stays unused.
PAPER_COUNT_BITS = 10
PAPER_TOTAL = (1 << PAPER_COUNT_BITS) - 1


def exact_counts(
    occurrences: Sequence[int], total: int, *, every_row: bool = False
) -> tuple[int, ...]:
    """Counts that sum to ``total`` and minimise the coded size, exactly.

    The size ``sum_r n_r * log2(total / c_r)`` is separable and convex in the counts, so handing
    counts one by one to the row that gains most, ``n * log2((c + 1) / c)``, is optimal (Fox 1966);
    starting at or below the optimum keeps that true, so the start is the proportional share rounded
    down, corrected both ways. Rows that occur get at least one count; the others none, or one with
    ``every_row`` (a table for unseen data). ``ValueError`` if there are more such rows than counts.
    """
    needs = [n > 0 or every_row for n in occurrences]
    if not any(needs):
        return (total, *([0] * (len(occurrences) - 1)))
    if not any(occurrences):
        occurrences = [1] * len(occurrences)  # nothing is known, so nothing is preferred
    if sum(needs) > total:
        raise ValueError(f"{sum(needs)} rows cannot share {total} counts")
    population = sum(occurrences)
    counts = [
        max(1, n * total // population) if need else 0
        for n, need in zip(occurrences, needs, strict=True)
    ]
    _hand_out(occurrences, counts, total)
    return tuple(counts)


def _hand_out(occurrences: Sequence[int], counts: list[int], total: int) -> None:
    """Add or take counts, each where it gains most or costs least, until they sum to ``total``.

    Ends with exchanges between the row that would gain most from one more count and the one that
    would lose least by one fewer, as long as the exchange pays.
    """

    def gain(row: int) -> float:
        return occurrences[row] * log2((counts[row] + 1) / counts[row])

    def loss(row: int) -> float:
        return occurrences[row] * log2(counts[row] / (counts[row] - 1))

    gains = [(-gain(r), r) for r in range(len(counts)) if counts[r]]
    losses = [(loss(r), r) for r in range(len(counts)) if counts[r] > 1]
    heapq.heapify(gains)
    heapq.heapify(losses)

    def change(row: int, step: int) -> None:
        counts[row] += step
        heapq.heappush(gains, (-gain(row), row))
        if counts[row] > 1:
            heapq.heappush(losses, (loss(row), row))

    def best_gain() -> tuple[float, int]:
        while gains[0][0] != -gain(gains[0][1]):  # stale: that row's count has changed since
            heapq.heappop(gains)
        return -gains[0][0], gains[0][1]

    def best_loss() -> tuple[float, int] | None:
        while losses and (counts[losses[0][1]] < 2 or losses[0][0] != loss(losses[0][1])):
            heapq.heappop(losses)
        return losses[0] if losses else None

    missing = total - sum(counts)
    for _ in range(missing):
        change(best_gain()[1], +1)
    for _ in range(-missing):
        taken = best_loss()
        assert taken is not None  # rows never outnumber counts, so one of them can give
        change(taken[1], -1)
    while (given := best_loss()) and best_gain()[0] > given[0] * (1 + 1e-12):
        receiver = best_gain()[1]
        if receiver == given[1]:
            break
        change(given[1], -1)
        change(receiver, +1)


def paper_counts(
    occurrences: Sequence[int], total: int = PAPER_TOTAL, *, every_row: bool = False
) -> tuple[int, ...]:
    """Counts as the paper assigns them (section VI): proportional cumulative shares, rounded down.

    The highest cumulative count is ``total``. A row that occurs but whose share rounds to nothing
    could not be decoded, which the text leaves open: it takes a count from the largest row. With
    ``every_row`` (the adjustment for activations) rows that did not occur take one as well.
    """
    population = sum(occurrences)
    if population == 0:
        return exact_counts(occurrences, total, every_row=every_row)
    if sum(n > 0 or every_row for n in occurrences) > total:
        raise ValueError(f"{len(occurrences)} rows cannot share {total} counts")
    highs, seen = [0], 0
    for n in occurrences:
        seen += n
        highs.append(seen * total // population)
    counts = [high - low for low, high in pairwise(highs)]
    for row, n in enumerate(occurrences):
        if counts[row] == 0 and (n > 0 or every_row):
            counts[counts.index(max(counts))] -= 1
            counts[row] = 1
    return tuple(counts)

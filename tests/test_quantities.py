"""Amounts of bytes are read as people write them, or refused; and written as they are read."""

import pytest

from fewbits.quantities import parse_bytes, size


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2GB", 2 * 10**9), ("900 MiB", 900 << 20), ("1.5k", 1500), (4096, 4096), ("64 B", 64)],
)
def test_budgets_are_read(text, expected):
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "2 parsecs", "-1GB", "0", 0, True, "GB", "1e9", "0.1B"])
def test_what_is_no_budget_is_named(text):
    with pytest.raises(ValueError, match="budget"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2.5e9, "2.5 GB"), (4e15, "4000.0 TB")],
)
def test_amounts_are_written(count, expected):
    assert size(count) == expected

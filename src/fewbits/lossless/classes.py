"""What a row of a tensor is, for the classes of rows that share a range table.

Which rows are alike is found by the kernels (``kernels/search_classes.cpp``).

>>> row_length((1000, 384), 384_000, 2), row_length((5, 3), 15, 2)
(384, 129)
>>> row_length((9, 20_001), 180_009, 2)  # in three pieces
6667
"""

from math import prod

# Rows of fewer elements than this are taken several at a time; longer ones than that in pieces.
LEAST_ROW, MOST_ROW = 128, 8192
# Bytes of a row where the shape tells of none; rows as long are decoded straight to their place.
FLAT_ROW_BYTES = 4096


def row_length(shape: tuple[int, ...], elements: int, element_bytes: int) -> int:
    """Elements that make a row, for a tensor of this shape in so many storage elements."""
    flat = FLAT_ROW_BYTES // element_bytes
    per_row, left = divmod(elements, shape[0]) if len(shape) > 1 and shape[0] else (0, 0)
    if left or prod(shape) == 0 or per_row == 0:
        return flat
    if per_row < LEAST_ROW:
        return per_row * -(-LEAST_ROW // per_row)
    pieces = -(-per_row // MOST_ROW)
    return per_row // pieces if per_row % pieces == 0 else flat

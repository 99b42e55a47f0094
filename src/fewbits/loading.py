"""Decoding all tensors of a file: small ones side by side, and the next ones read meanwhile."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fewbits.container import Entry
from fewbits.frame import PackedTensor
from fewbits.threads import resolve_threads

if TYPE_CHECKING:
    from fewbits.archive import Archive

# Tensors are decoded together until they are so many bytes of the file for each thread. Behind
# fsspec twice as much as a group is in memory besides the tensors.
GROUP_BYTES = 1 << 24
MOST_GROUP_BYTES = 1 << 28


def arrays(archive: "Archive", threads: int | None) -> Iterator[tuple[str, NDArray[Any]]]:
    """All tensors of an archive by name, in the order of the file's data, in memory of their own.

    If some are damaged, the first of them in that order raises, whatever the threads do.
    """
    threads = resolve_threads(threads)
    groups = list(_groups(archive.container.in_file_order, threads))
    with ThreadPoolExecutor(threads) as pool:
        for group, following in zip_longest(groups, groups[1:]):
            if following:
                archive.expect(following)
            each = max(1, threads // len(group))
            names = [entry.name for entry in group]
            several = threads > 1 and len(group) > 1
            found = (pool.map if several else map)(lambda n: _array(archive[n], each), names)  # noqa: B023
            yield from zip(names, found, strict=True)


def _groups(entries: list[Entry], threads: int) -> Iterator[list[Entry]]:
    """Entries that follow each other, together until they are worth all threads' while."""
    enough = min(GROUP_BYTES * threads, MOST_GROUP_BYTES)
    group: list[Entry] = []
    for entry in entries:
        group.append(entry)
        if entry.stop - group[0].start >= enough:
            yield group
            group = []
    if group:
        yield group


def _array(tensor: PackedTensor | NDArray[Any], threads: int) -> NDArray[Any]:
    if isinstance(tensor, PackedTensor):
        return replace(tensor, threads=threads).unpack()
    return np.array(tensor)

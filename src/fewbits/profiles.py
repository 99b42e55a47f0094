"""Profiles: tables fitted to samples, to pack data that are not there yet.

As the APack paper does for activations (sections VI and VII): run a few batches, fit tables to what
they gave, and pack all that follows with these tables, without looking for better ones.

>>> import fewbits, numpy as np
>>> rng = np.random.default_rng(0)
>>> batches = [rng.laplace(0, 3, 10_000).astype(np.int8) for _ in range(9)]
>>> profiled = profile(batches[:4])
>>> frames = [fewbits.pack(batch, profiled) for batch in batches[4:]]
>>> all((fewbits.unpack(f) == b).all() for f, b in zip(frames, batches[4:], strict=True))
True
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fewbits import frame_header
from fewbits.errors import CorruptError
from fewbits.frame_header import Header
from fewbits.lossless.choose import Lossless, block_elements
from fewbits.lossless.histogram import entropy
from fewbits.lossless.plan import Coder, Plan, Plane
from fewbits.lossless.profiling import Tally
from fewbits.lossless.table import RangeTable
from fewbits.values.types import NIBBLES, Remap, dtype_name, layout_of, to_storage


@dataclass(frozen=True)
class Profile:
    """How to pack arrays of one dtype: remap, planes and range tables, fixed beforehand.

    ``fewbits.profile`` makes one from samples. ``fewbits.pack``, ``fewbits.save`` and
    ``fewbits.StreamWriter`` take it in the place of settings. Whatever comes packs without loss: a
    block that the tables do not suit is stored as it is. Equal profiles make equal bytes.
    """

    dtype: str
    plan: Plan

    @classmethod
    def of_table(
        cls,
        table: RangeTable,
        dtype: Any,
        codec: Lossless | None = None,
        *,
        remap: Remap = Remap.IDENTITY,
    ) -> Self:
        """A profile of a table that is there already, such as one of the paper's.

        ``dtype`` has elements of one or two bytes, or two 4-bit ones in a byte; ``table`` is for
        their values as ``remap`` makes them. It need not be ``covering``: blocks with values that
        it lacks are stored as they are. Of ``codec`` only the coder counts. ``ValueError`` if the
        parts do not suit each other.
        """
        layout, settings = layout_of(np.dtype(dtype)), codec or Lossless()
        if layout.element_bytes > 2:
            raise ValueError(f"elements of {np.dtype(dtype)} take more than one table")
        field = NIBBLES if table.width == 4 else layout.element_bytes
        coder = Coder.RANS if settings.coder == "rans" else Coder.ARITHMETIC
        plane = Plane(field, 0, coder, 0, (table,))
        plan = Plan(layout.element_bytes, remap, block_elements(layout, settings), (plane,))
        plan.kernel  # noqa: B018  (builds the tables, which checks that the parts suit each other)
        return cls(dtype_name(np.dtype(dtype)), plan)

    @property
    def table(self) -> RangeTable:
        """The range table, where there is just one; ``ValueError`` if there are none or several."""
        tables = [table for plane in self.plan.planes for table in plane.tables]
        if len(tables) != 1:
            raise ValueError(f"this profile has {len(tables)} tables; see profile.plan.planes")
        return tables[0]

    def require(self, dtype: np.dtype) -> None:
        """``ValueError`` unless arrays of ``dtype`` can be packed with this profile."""
        if dtype_name(dtype) != self.dtype:
            raise ValueError(f"the profile is for {self.dtype}, the array is {dtype_name(dtype)}")

    def entropy_bits(self, data: NDArray[np.uint8]) -> float:
        """Order-0 entropy of the planes of a tensor's storage bytes, in bits an element."""
        return sum(
            entropy(self.plan.histograms(index, data)[0]) * plane.values_in(1)
            for index, plane in enumerate(self.plan.planes)
        )

    def to_bytes(self) -> bytes:
        """Serialize: the frame of an array of no elements that would have been packed with it."""
        nothing = np.empty(0, np.uint8)
        return frame_header.to_bytes(
            Header(
                dtype=self.dtype,
                shape=(0,),
                entropy_bits=0.0,
                plan=self.plan,
                modes=nothing,
                lengths=nothing.astype(np.uint32),
                checksums=nothing.astype(np.uint64),
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> Self:
        """What ``to_bytes`` wrote; ``CorruptError`` if it is damaged or anything else."""
        view = memoryview(data).cast("B")
        header = frame_header.parse(view, len(view))
        if header.frame_bytes != len(view) or header.shape != (0,):
            raise CorruptError("this frame is not a profile: it holds a tensor")
        if header.plan.classes is not None:
            raise CorruptError("this frame is not a profile: it has classes of rows")
        return cls(header.dtype, header.plan)


def profile(samples: Iterable[ArrayLike] | NDArray[Any], codec: Lossless | None = None) -> Profile:
    """Fit a profile to samples: arrays of any shapes and one dtype, or just one array.

    Samples are looked at one at a time and not kept. The tables cover values that no sample has.
    ``codec`` holds settings as for ``pack``; ``Lossless(coder="arithmetic", search="paper",
    count_bits=10)`` is the paper's way. ``ValueError`` where dtypes differ, or there is no element.
    """
    if isinstance(samples, Mapping):
        raise TypeError("samples are a mapping; profile its values, or each of them by itself")
    dtype, tally = None, None
    for number, sample in enumerate([samples] if isinstance(samples, np.ndarray) else samples):
        array = np.asarray(sample)
        name = dtype_name(array.dtype)
        if tally is None:
            dtype, tally = name, Tally(layout_of(array.dtype))
        elif name != dtype:
            raise ValueError(f"sample {number} is {name}, those before it are {dtype}")
        tally.add(to_storage(array))
    if dtype is None or tally is None or not tally.elements:
        raise ValueError("samples have no elements, so there is nothing to fit a profile to")
    return Profile(dtype, tally.plan(codec or Lossless()))

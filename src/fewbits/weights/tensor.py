"""A packed weight as a tensor: what modules hold in place of their parameters.

It has shape, dtype, device and strides but no elements. Views of it are packed, too; any other
operation of PyTorch gets the unpacked weight, below autograd. So autograd saves the packed one for
backward, and whatever a module does with its weights, no line of it changes.
"""

from typing import Any, Self

import torch
from torch.utils._pytree import tree_map_only

from fewbits.errors import FewbitsError
from fewbits.weights.packed import Packed, packed_of
from fewbits.weights.quantized import quantized_of
from fewbits.weights.unpacker import Unpacker, unpacker_of

# Size, strides and offset of a view, in elements.
Geometry = tuple[tuple[int, ...], tuple[int, ...], int]


class PackedWeight(torch.Tensor):
    """A weight that rests packed and is unpacked by each operation that uses it.

    It cannot be changed in place: `FewbitsError`, but for ``copy_``, which packs what it is given.
    """

    # Above autograd nothing is special about it, and PyTorch's fused fast paths stay open to it.
    __torch_function__ = torch._C._disabled_torch_function_impl

    packed: Packed
    unpacker: Unpacker

    @staticmethod
    def __new__(
        cls,
        packed: Packed,
        unpacker: Unpacker,
        *,
        geometry: Geometry | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
    ) -> "PackedWeight":
        """A weight at rest as a tensor of its shape, or as the view that ``geometry`` tells."""
        size, strides, offset = geometry or whole(packed.shape)
        self = torch.Tensor._make_wrapper_subclass(
            cls,
            size,
            strides=strides,
            storage_offset=offset,
            dtype=dtype or packed.dtype,
            device=torch.device(device),
            requires_grad=False,
        )
        self.packed, self.unpacker = packed, unpacker
        return self  # type: ignore[no-any-return]

    def unpack(self) -> torch.Tensor:
        """The unpacked weight in memory of its own; `CorruptError` if its frame is damaged."""
        return self.in_scratch().clone()

    def in_scratch(self) -> torch.Tensor:
        """The unpacked weight in scratch, for as long as the tensor is in use."""
        if self.device.type == "cpu":
            plain = self.unpacker.unpacked(self.packed)
        else:
            plain = self.unpacker.unpacked_on(self.packed, self.device)
        if not self.is_whole:
            plain = plain.as_strided(self.size(), self.stride(), self.storage_offset())
        return plain if plain.dtype == self.dtype else plain.to(self.dtype)

    @property
    def is_whole(self) -> bool:
        """Whether this is all of the weight, in its own shape."""
        return geometry_of(self) == whole(self.packed.shape)

    @property
    def is_cast(self) -> bool:
        """Whether it is cast to another dtype each time it is unpacked."""
        return bool(self.dtype != self.packed.dtype)

    def like(self, **changes: Any) -> "PackedWeight":
        """The same weight with another geometry, dtype or device."""
        kept = {"geometry": geometry_of(self), "dtype": self.dtype, "device": self.device}
        return PackedWeight(self.packed, self.unpacker, **(kept | changes))

    def on(self, unpacker: Unpacker) -> "PackedWeight":
        """The whole weight in the hands of another unpacker."""
        return PackedWeight(self.packed, unpacker, device=self.device)

    def numpy(self, *, force: bool = False) -> Any:
        """The unpacked weight as NumPy's array."""
        return self.unpack().numpy(force=force)

    def tolist(self) -> Any:
        """The unpacked weight as nested lists."""
        return self.in_scratch().tolist()

    def data_ptr(self) -> int:
        """Packed weights have no address: `FewbitsError`, so that no library reads one."""
        raise FewbitsError(
            f"weight {self.packed.name!r} is packed and has no address in memory; "
            "use its .unpack(), fewbits.weights.save, or fewbits.weights.detach(model)"
        )

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        share = self.packed.packed_bytes / self.packed.nbytes
        return (
            f"PackedWeight({self.packed.name!r}, {list(self.shape)}, {self.dtype}, "
            f"{self.packed.codec}, {share:.1%} of its bytes)"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        if id(self) not in memo:
            unpacker = memo.get(id(self.unpacker)) or Unpacker(self.unpacker.settings)
            memo[id(self.unpacker)] = unpacker
            memo[id(self)] = _rebuild(*self._parts(), unpacker)
        return memo[id(self)]  # type: ignore[no-any-return]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _rebuild, (*self._parts(), self.unpacker)

    def _parts(self) -> tuple[Packed, Geometry, torch.dtype, str, bool, bool]:
        place = (geometry_of(self), self.dtype, str(self.device))
        return self.packed, *place, bool(getattr(self, "_is_param", False)), self.requires_grad

    # What PyTorch's modules ask for before they exchange tensors for others (`Module.to`).
    def __tensor_flatten__(self) -> tuple[list[str], Any]:
        return ["frame"], (self.packed, self.unpacker, self.device)

    @staticmethod
    def __tensor_unflatten__(inner: Any, meta: Any, size: Any, stride: Any) -> "PackedWeight":
        packed, unpacker, device = meta
        return PackedWeight(packed, unpacker, device=device)

    @property
    def frame(self) -> torch.Tensor:
        """The bytes at rest, as they are."""
        return torch.frombuffer(bytearray(self.packed.frame()), dtype=torch.uint8)

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        from fewbits.weights.operations import run

        return run(func, args, kwargs or {})


def whole(shape: tuple[int, ...]) -> Geometry:
    """The geometry of a contiguous tensor."""
    strides, step = [], 1
    for length in reversed(shape):
        strides.append(step)
        step *= max(length, 1)
    return tuple(shape), tuple(reversed(strides)), 0


def geometry_of(tensor: torch.Tensor) -> Geometry:
    """Size, strides and offset of a tensor."""
    return tuple(tensor.size()), tuple(tensor.stride()), tensor.storage_offset()


def plain(values: Any) -> Any:
    """Arguments of an operation with packed weights unpacked."""
    return tree_map_only(PackedWeight, PackedWeight.in_scratch, values)


def as_parameter(weight: PackedWeight) -> torch.nn.Parameter:
    """The weight as a frozen parameter."""
    return torch.nn.Parameter(weight, requires_grad=False)


def _rebuild(
    packed: Packed,
    geometry: Geometry,
    dtype: torch.dtype,
    device: str,
    is_parameter: bool,
    requires_grad: bool,
    unpacker: Unpacker,
) -> torch.Tensor:
    weight = PackedWeight(packed, unpacker, geometry=geometry, dtype=dtype, device=device)
    made = torch.nn.Parameter(weight, requires_grad=False) if is_parameter else weight
    return made.requires_grad_(requires_grad)


# ``torch.load`` calls only what is known to be safe. These check what they are given.
torch.serialization.add_safe_globals([_rebuild, packed_of, quantized_of, unpacker_of])

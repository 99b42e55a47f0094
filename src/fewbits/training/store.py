"""Packed tensors, each held once however many operations saved it, and for as long as one may ask.

Autograd's nodes hold a `Packed`, which holds its `Entry`. The store itself holds entries weakly:
when the last node lets go, the parts are freed. Of decoded tensors it keeps one at a time, and only
while another node may still ask for the same, so that three projections of one input decode it
once.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from fewbits.lossy.codec import Codec, Parts, TensorSpec, packed_nbytes
from fewbits.lossy.comparisons import Nonzero
from fewbits.lossy.exponential import Exp
from fewbits.lossy.fidelity import fidelity
from fewbits.lossy.lossless import Exact, Lossless
from fewbits.lossy.mask import Bits, Mask
from fewbits.lossy.quantize import Quantize
from fewbits.training.faults import ModifiedError
from fewbits.training.layout import (
    Key,
    Keys,
    View,
    compact,
    in_memory_order,
    restored,
    view_of,
)
from fewbits.training.rebuilt import Held, Rebuilt
from fewbits.training.report import Row, short_name


class Entry:
    """One packed run of memory: a codec's parts, and what it takes to decode them."""

    inputs: tuple[Held, ...] = ()  # it is decoded from nothing else
    __slots__ = (
        "__weakref__",
        "_alias",
        "_decoded",
        "codec",
        "parts",
        "row",
        "spec",
        "strides",
        "waiting",
        "wanted",
    )

    def __init__(self, codec: Codec, base: torch.Tensor, row: Row, seed: int) -> None:
        self.row = row
        self.wanted = codec
        self.waiting = 0
        self._decoded: torch.Tensor | None = None
        self.pack(codec, base, seed)

    def pack(self, codec: Codec, base: torch.Tensor, seed: int) -> None:
        """Hold this tensor, dense, by this codec: for the first time, or better than before."""
        self.forget()
        if codec.flat:
            base = in_memory_order(base)
        self.codec = codec
        self.spec = TensorSpec.of(base)
        self.strides = base.stride()
        self.parts: Parts = codec.encode(base, seed=seed)
        # A codec that had nothing to do returns the tensor, which someone may modify in place.
        own = base.untyped_storage()._cdata
        alias = (part for part in self.parts if part.untyped_storage()._cdata == own)
        self._alias = next(((part, part._version) for part in alias), None)
        self.row.after = packed_nbytes(self.parts)
        self.row.codec = codec

    @property
    def device(self) -> torch.device:
        """Where it is held."""
        return self.parts[0].device

    @property
    def masked(self) -> bool:
        """Is it held as a mask only?"""
        return isinstance(self.codec, Bits | Nonzero)

    def run(self) -> torch.Tensor:
        """The decoded run of memory, one dimension."""
        if self._decoded is not None:
            return self._decoded
        if self._alias is not None:
            refuse_if_modified(*self._alias, self.row)
        decoded = self.codec.decode(self.parts, self.spec)
        return decoded.reshape(-1) if self.codec.flat else restored(decoded, self.strides)

    def keep(self, run: torch.Tensor) -> None:
        """Keep the decoded run for the next who asks."""
        self._decoded = run

    def forget(self) -> None:
        """Let go of the decoded run."""
        self._decoded = None


@dataclass(frozen=True, slots=True)
class Packed:
    """What autograd holds for a packed tensor."""

    store: "Store"
    entry: Entry | Rebuilt
    view: View
    row: Row

    @property
    def masked(self) -> bool:
        """Is it held as a mask only?"""
        return self.entry.masked

    def peek(self) -> torch.Tensor:
        """The tensor, for someone who is not autograd."""
        return self.view.of(self.entry.run())


class Alone:
    """What autograd holds for a tensor that is left as it is."""

    __slots__ = ("__weakref__", "_version", "row", "tensor")
    masked = False
    waiting = 0
    wanted: Codec = Exact()

    def __init__(self, tensor: torch.Tensor, row: Row) -> None:
        self.tensor = tensor.detach()  # the tensor itself may refer to the node that holds this
        self._version = tensor._version
        self.row = row

    def get(self) -> torch.Tensor:
        """The tensor, if it is what it was."""
        refuse_if_modified(self.tensor, self._version, self.row)
        return self.tensor

    peek = get

    def run(self) -> torch.Tensor:
        """Its run of memory."""
        return in_memory_order(compact(self.get())[0]).reshape(-1)


class Store:
    """The entries of one forward pass."""

    def __init__(self, seed: int, measure: bool) -> None:
        self.unheld: list[tuple[Row, torch.Tensor]] = []
        self._seed = seed
        self._measure = measure
        self._count = 0
        self._entries: weakref.WeakValueDictionary[Key, Entry] = weakref.WeakValueDictionary()
        self._alone: weakref.WeakValueDictionary[Key, Alone] = weakref.WeakValueDictionary()
        self._counted: set[Key | int] = set()  # storages and runs whose bytes are in the report
        self._keys = Keys()
        self._last: weakref.ref[Entry | Rebuilt] | None = None

    def close(self) -> None:
        """The forward is over: no tensor will be met again."""
        self._entries.clear()
        self._alone.clear()
        self._counted.clear()
        self._keys.clear()

    def hold(self, tensor: torch.Tensor, row: Row) -> Alone:
        """Leave a tensor as it is. What was packed of it is not needed any more."""
        storage = tensor.untyped_storage()
        if storage.nbytes() > 2 * tensor.nbytes:  # do not keep all of it for a small view
            row.before = row.after = tensor.nbytes
            return Alone(tensor.detach().clone(), row)
        key = self._key("", tensor)
        if storage._cdata not in self._counted:
            self._counted.add(storage._cdata)
            row.before = row.after = storage.nbytes()
        entry = self._entries.get(key)
        if entry is not None:
            entry.pack(Exact(), compact(tensor)[0], 0)
            entry.row.before = entry.row.after = 0
            entry.row.note = "held exact for another"
        alone = Alone(tensor, row)
        self._alone[key] = alone
        return alone

    def put(
        self, tensor: torch.Tensor, choose: Callable[[], Codec], row: Row, kind: str = ""
    ) -> Packed | Alone:
        """Hold a tensor by the codec that ``choose`` gives, or find it held already.

        `Bits` or `Nonzero` as ``choose`` ask for a mask only; where values of the same tensor are
        asked for as well, before or after, these are held, with a codec that keeps zeros. ``kind``
        tells apart uses of one tensor that cannot share.
        """
        key, mask_only = self._key(kind, tensor), choose in (Bits, Nonzero)
        if key in self._alone:
            row.note = "held exact for another"
            return Alone(tensor, row)
        entry = self._entries.get(key)
        if entry is None or (entry.masked and not mask_only):
            codec = choose()
            if isinstance(codec, Exact):
                row.note = row.note or "exact by policy"
                return self.hold(tensor, row)
        base, view = compact(tensor)
        if entry is None:
            if key[1:] not in self._counted:
                self._counted.add(key[1:])
                row.before = base.nbytes
            entry = self._entries[key] = self._new(codec, base, row, values=not kind)
        else:
            if entry.masked and not mask_only:
                self._pack(entry, keeping_zeros(codec), base)
            elif mask_only and not keeps_zeros(entry.codec):
                self._pack(entry, keeping_zeros(entry.codec), base)
            elif choose is Lossless and not entry.codec.exact:
                self._pack(entry, Lossless(), base)
            row.codec = entry.codec
            row.note = "saved before"
        entry.waiting += 1
        return Packed(self, entry, view, row)

    def find(self, key: Key) -> Held | None:
        """What holds the values of the tensor with this key, as `key_of` gives it."""
        entry = self._entries.get(("", *key))
        if entry is not None and not entry.masked:
            return entry
        return self._alone.get(("", *key))

    def adopt(self, rebuilt: Rebuilt, tensor: torch.Tensor, row: Row) -> Packed:
        """Hold nothing of a tensor that can be rebuilt."""
        key = self._key("", tensor)
        if key[1:] not in self._counted:
            self._counted.add(key[1:])
            row.before = compact(tensor)[0].nbytes
        names = dict.fromkeys(x.row.whose for x in rebuilt.tensors.values())
        row.note = "rebuilt from " + ", ".join(names)
        if self._measure:
            row.fidelity = fidelity(in_memory_order(compact(tensor)[0]).reshape(-1), rebuilt.run())
        rebuilt.waiting += 1
        return Packed(self, rebuilt, view_of(tensor), row)

    def get(self, packed: Packed) -> torch.Tensor:
        """The tensor again, in its shape and strides."""
        entry = packed.entry
        entry.waiting -= 1
        if entry.masked:
            return packed.view.of(entry.run())
        self._forget(but=(entry, *entry.inputs))
        run = entry.run()
        if entry.waiting > 0:
            self.keep(entry, run)
        else:
            entry.forget()
        return packed.view.of(run)

    def keep(self, held: Held | Rebuilt, run: torch.Tensor) -> None:
        """Keep a decoded run for who may ask next, and let go of the one that was kept."""
        self._forget(but=(held,))
        if isinstance(held, Entry | Rebuilt):
            held.keep(run)
            self._last = weakref.ref(held)

    def _forget(self, but: tuple[object, ...]) -> None:
        """Let go of the decoded run that was kept, unless it is one of these."""
        last = self._last() if self._last else None
        if last is not None and not any(last is other for other in but):
            last.forget()
            self._last = None

    def _key(self, kind: str, tensor: torch.Tensor) -> Key:
        return (kind, *self._keys.of(tensor))

    def _next_seed(self) -> int:
        self._count += 1
        return self._seed + self._count

    def _new(self, codec: Codec, base: torch.Tensor, row: Row, values: bool) -> Entry:
        why = codec.refusal(TensorSpec.of(base))
        if why is not None:
            codec, row.note = _fallback(base), f"{short_name(codec)} refused: {why}"
        entry = Entry(codec, base, row, self._next_seed())
        if values:  # else what comes back is not meant to be like them
            self._check(entry, base)
        if isinstance(entry.codec, Lossless) and row.after >= base.nbytes:
            entry.pack(Exact(), base, 0)
            row.note = row.note or "cannot be made smaller without loss"
        return entry

    def _pack(self, entry: Entry, codec: Codec, base: torch.Tensor) -> None:
        """Pack once more, for a need that was not there at first."""
        if codec.refusal(TensorSpec.of(base)) is not None:
            codec = _fallback(base)
        entry.pack(codec, base, self._next_seed())
        self._check(entry, base)

    def _check(self, entry: Entry, base: torch.Tensor) -> None:
        """Hold what is not finite without loss; measure, if that is wanted."""
        if not (entry.codec.exact or entry.masked) and base.is_floating_point():
            finite = _finite(entry, base)
            if base.device.type != "cpu":  # to ask now would wait for the device
                self.unheld.append((entry.row, ~finite))
            elif not finite:
                entry.row.note = "holds NaN or infinity"
                entry.pack(_fallback(base), base, 0)
        if self._measure and base.is_floating_point() and not entry.masked:
            entry.row.fidelity = 1.0 if entry.codec.exact else _fidelity(entry, base)


def refuse_if_modified(tensor: torch.Tensor, version: int, row: Row) -> None:
    """`ModifiedError` if the tensor is no longer of this version."""
    if tensor._version != version:
        raise ModifiedError(
            f"a tensor that {row.whose} saved was modified in place before backward (version "
            f"{tensor._version}, saved at {version}); it is held as it is: {row.note or row.codec}"
        )


def keeps_zeros(codec: Codec) -> bool:
    """Do zeros come back as zeros, and other values as other values of their sign?"""
    stages: tuple[Any, ...] = getattr(codec, "stages", (codec,))
    first = stages[0]
    return codec.exact or isinstance(first, Mask | Bits | Nonzero) or getattr(first, "zeros", False)


def keeping_zeros(codec: Codec) -> Codec:
    """The codec, or the nearest to it that `keeps_zeros`."""
    if keeps_zeros(codec):
        return codec
    if isinstance(codec, Quantize):
        return replace(codec, zeros=True)
    return Mask() + codec


def _fallback(base: torch.Tensor) -> Codec:
    return Exact() if Lossless().refusal(TensorSpec.of(base)) else Lossless()


def _fidelity(entry: Entry, base: torch.Tensor) -> float:
    run, decoded = in_memory_order(base).reshape(-1), entry.run()
    if isinstance(getattr(entry.codec, "stages", (None,))[0], Exp):  # used as exponentials only
        run, decoded = run.exp(), decoded.exp()
    return fidelity(run, decoded)


def _finite(entry: Entry, base: torch.Tensor) -> torch.Tensor:
    if isinstance(entry.codec, Quantize):  # the grids of groups that cannot be held are NaN
        return torch.isfinite(entry.parts[1]).all()
    # Adding is cheaper than asking each element; only a sum that overflows is asked again.
    wide = torch.float64 if base.dtype.itemsize > 4 else torch.float32
    total = torch.isfinite(base.sum(dtype=wide))
    if base.device.type == "cpu" and not total:
        return torch.isfinite(base).all()
    return total

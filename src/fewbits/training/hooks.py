"""Pack what autograd saves during a forward pass, and unpack it when backward asks."""

import contextlib
import itertools
from collections import Counter
from types import TracebackType
from typing import Any, Self

import torch
from torch.autograd.graph import saved_tensors_hooks

from fewbits.errors import FewbitsError
from fewbits.lossy.codec import Codec, TensorSpec
from fewbits.lossy.comparisons import Nonzero
from fewbits.lossy.exponential import Exp
from fewbits.lossy.lossless import Lossless
from fewbits.lossy.mask import Bits
from fewbits.lossy.policy import Chooser, Policy, SavedTensor
from fewbits.training.calls import Calls, Saving
from fewbits.training.compiled import GraphHooks, borrow, give_back
from fewbits.training.faults import ModifiedError
from fewbits.training.layout import overlaps
from fewbits.training.needs import Need, need_of
from fewbits.training.rebuilt import Rebuilder
from fewbits.training.recipes import Recipes
from fewbits.training.report import Report, Row
from fewbits.training.scope import PARAMETER, Scope
from fewbits.training.special import special_codec
from fewbits.training.store import Alone, Packed, Store
from fewbits.training.unbiased import unbiased

_STEPS = itertools.count()
_PLAIN = (torch.Tensor, torch.nn.Parameter)
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio: steps and seeds far apart


class pack_activations:
    """Pack the tensors that autograd saves inside ``with``, by a codec's name, a codec or a policy.

    Backward may run inside or after. The object may be entered again for the next step, or made
    anew; it cannot be entered while it is active. Where two are nested, the inner one packs.

    ``min_bytes``: smaller tensors are left alone. ``seed`` drives stochastic rounding, together
    with ``step``, which counts the packed forwards of this process if it is not given. ``measure``
    decodes each tensor at once and puts its fidelity into the report (slow). ``rebuild`` computes
    the output of a cheap function again from its packed input, rather than hold both.

    Raises:
        ValueError: An unknown codec's name, or a negative number.
        TypeError: Neither a name, nor a codec, nor a policy.
    """

    def __init__(
        self,
        policy: str | Codec | Chooser,
        *,
        seed: int = 0,
        step: int | None = None,
        min_bytes: int = 1024,
        measure: bool = False,
        rebuild: bool = True,
    ) -> None:
        for name, number in (("seed", seed), ("step", step or 0), ("min_bytes", min_bytes)):
            if not isinstance(number, int) or number < 0:
                raise ValueError(f"{name} must be an integer of 0 or more, not {number!r}")
        self.policy = chooser_of(policy)
        self._seed = seed
        self._step = step
        self._min_bytes = min_bytes
        self._measure = measure
        self._active = False
        self._rows: list[Row] = []
        self._pair: GraphHooks | None = None
        self._store = Store(seed, measure)
        self._scope = Scope()
        self._recipes = Recipes(self._is_there) if rebuild else None
        self._rebuilder: Rebuilder | None = None
        self._calls = Calls(self._on_top, self._recipes)
        self._counts: Counter[tuple[str, str]] = Counter()

    def __enter__(self) -> Self:
        if self._active:
            raise FewbitsError("this pack_activations is active already; nest another one")
        step = next(_STEPS) if self._step is None else self._step
        self._store = Store((self._seed + 1) * _GOLDEN + (step << 24), self._measure)
        if self._recipes is not None:
            self._rebuilder = Rebuilder(self._recipes, self._store.find, self._store.keep)
        self._rows, self._counts = [], Counter()
        self.policy.begin()
        self._pair = borrow(self.policy.traced(), self._min_bytes, self._pack, _unpack)
        self._hooks = saved_tensors_hooks(self._pair.pack, self._pair.unpack)
        self._scope.open()
        self._hooks.__enter__()
        self._calls.__enter__()
        self._active = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._calls.__exit__(kind, error, trace)
        self._hooks.__exit__(kind, error, trace)
        if self._pair is not None:
            give_back(self._pair)
        self._scope.close()
        self._store.close()
        self._rebuilder = None
        if self._recipes is not None:
            self._recipes.clear()
        self._active = False
        self.policy.held(sum(row.after for row in self._rows))

    def report(self) -> Report:
        """What happened to each tensor of the last forward pass."""
        for row, unheld in self._store.unheld:
            if bool(unheld):
                row.note = "holds NaN or infinity: its groups come back as NaN"
        self._store.unheld.clear()
        return Report(tuple(self._rows), tuple(self._pair.rows if self._pair else ()))

    def _on_top(self) -> bool:
        """Do saved tensors come to us, and not to hooks set inside ours, such as a checkpoint's?"""
        top = torch._C._autograd._top_saved_tensors_default_hooks(True)
        return top is not None and self._pair is not None and top[0] is self._pair.pack

    def _pack(self, tensor: torch.Tensor) -> Packed | Alone:
        held = self._held(tensor)
        if self._calls.current is not None:
            self._calls.saved.append(held)
        return held

    def _held(self, tensor: torch.Tensor) -> Packed | Alone:
        saving = self._calls.saving(tensor)
        module = self._scope.path
        row = Row(saving.op, module, tuple(tensor.shape), tensor.dtype, 0, 0)
        self._rows.append(row)
        try:
            row.note = self._held_by_others(tensor, saving)
            if row.note:
                return Alone(tensor, row)
            row.note = self._why_alone(tensor)
            if row.note:
                return self._store.hold(tensor, row)
            with _plain(tensor.device):
                return self._put(tensor, saving, row)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise FewbitsError(f"packing a tensor that {row.whose} saves: {error}") from error

    def _put(self, tensor: torch.Tensor, saving: Saving, row: Row) -> Packed | Alone:
        need = Need.VALUE if saving.custom else need_of(saving, tensor)
        if need in (Need.SHAPE, Need.SIGN, Need.INSIDE, Need.INDEX):
            codec = special_codec(need, saving)
            if codec.refusal(TensorSpec.of(tensor)) is None:
                row.note = f"needed: {need.value}"
                return self._store.put(tensor, lambda: codec, row, kind=need.value)
            need = Need.LOSSLESS
        if need is Need.ZERO:
            return self._store.put(tensor, Nonzero, row)
        if need is Need.TWO or tensor.dtype is torch.bool:
            return self._store.put(tensor, Bits, row, kind="two")
        if need is Need.LOSSLESS or not tensor.is_floating_point():
            return self._store.put(tensor, Lossless, row)
        if need is Need.EXACT:
            row.note = f"{saving.op} needs it exact"
            return self._store.hold(tensor, row)
        return self._rebuilt(need, tensor, saving, row) or self._store.put(
            tensor, lambda: self._chosen(need, tensor, saving, row), row
        )

    def _rebuilt(self, need: Need, tensor: torch.Tensor, saving: Saving, row: Row) -> Packed | None:
        """The tensor as what it can be rebuilt from, if it can and the policy has it so."""
        if self._rebuilder is None or need is not Need.VALUE:
            return None
        found = self._rebuilder.of(tensor, saving.original(tensor))
        if found is None:
            return None
        if not self.policy.rebuilds(self._asked(tensor.detach(), saving, row), found.codecs):
            return None
        return self._store.adopt(found, tensor, row)

    def _asked(self, values: torch.Tensor, saving: Saving, row: Row) -> SavedTensor:
        """A tensor as a policy is asked about it."""
        where = (row.op, row.module, row.shape, row.dtype, row.key)
        return SavedTensor(*where, values, saving.custom, self._scope.root)

    def _is_there(self, tensor: torch.Tensor) -> bool:
        return tensor.nbytes < self._min_bytes or self._scope.holder(tensor) is not None

    def _chosen(self, need: Need, tensor: torch.Tensor, saving: Saving, row: Row) -> Codec:
        place = (row.module, row.op)
        number = self._counts[place]
        self._counts[place] = number + 1
        row.key = f"{row.module}:{row.op}:{number}"
        values = tensor.detach()
        if need is Need.LOG and not isinstance(self.policy, Policy):
            values = values.exp()  # what will be packed; a policy of rules does not look
        codec = self.policy.choose(self._asked(values, saving, row))
        return Exp() + unbiased(codec) if need is Need.LOG and not codec.exact else codec

    def _held_by_others(self, tensor: torch.Tensor, saving: Saving) -> str:
        if tensor.layout is not torch.strided or type(tensor) not in _PLAIN:
            kind = str(tensor.layout).removeprefix("torch.")
            return f"not a plain tensor ({kind} {type(tensor).__name__}), not counted"
        return self._scope.holder(tensor) or (PARAMETER if saving.casts_parameter(tensor) else "")

    def _why_alone(self, tensor: torch.Tensor) -> str:
        if tensor.nbytes < self._min_bytes:
            return "small"
        if tensor.is_complex():
            return "complex"
        return "its elements overlap" if overlaps(tensor) and 0 not in tensor.stride() else ""


def _unpack(held: Packed | Alone) -> torch.Tensor:
    if isinstance(held, Alone):
        return held.get()
    try:
        with _plain(held.entry.device):
            return held.store.get(held)
    except (torch.OutOfMemoryError, ModifiedError):
        raise
    except Exception as error:
        raise FewbitsError(f"unpacking what {held.row.whose} saved: {error}") from error


def chooser_of(policy: "str | Codec | Chooser") -> Chooser:
    """What picks the codecs: a chooser as it is, ``"auto"``, or a policy of one codec."""
    if isinstance(policy, Chooser):
        return policy
    if policy == "auto":
        from fewbits.training.auto import Auto

        return Auto()
    try:
        return Policy.of(policy)
    except ValueError as error:
        raise ValueError(f'{error}; or "auto"') from None


def _plain(device: torch.device) -> Any:
    """Without autocast, which would round a codec's products."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()

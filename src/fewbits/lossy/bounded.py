"""Every element within a bound: multiples of a step, in blocks of as few bits as each block needs.

In the manner of SZ and cuSZp. Element x becomes the integer ``q = floor(x / step + 1/2)`` and comes
back as ``q step``. A run of 32 elements is a **block**; its integers are written in the same number
of bits, the fewest of three ways:

=====  ===========================  =========================================
way    what is written              good for
=====  ===========================  =========================================
0      ``q``                        no negative ones, as after ReLU
1      zigzag of ``q``              any signs
2      zigzag of ``q[i] - q[i-1]``  neighbours that are alike; ``q[-1] = 0``
3      the element's own bits       what cannot be held within the bound
=====  ===========================  =========================================

Zigzag is ``2 q`` for ``q >= 0``, else ``-2 q - 1``. The parts are the words of all blocks, an entry
for each block (uint8: its bits in the low 6, the way in the high 2), and the step. Word p of a
block holds bit p of its 32 numbers, element i in bit i; a block in way 3 has as many words as an
element has bits, and the low 6 of its entry are 0. A block of zeros is its entry and nothing else.
(Writing the first number of a difference apart, or a block's smallest, would change sizes by 1 % on
activations.)

**The bound and rounding.** Division by multiplication, conversion to a shorter float, a step that
is a subnormal: each can push a value past its bound. So the encoder decodes each element, and a
block with one that missed is written in way 3: NaN, inf and overflow end there too. The check
itself rounds: it is against a limit so far below the bound that no rounding of a difference reaches
it.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch

from fewbits.lossy import native_bounded
from fewbits.lossy.backend import backend_for
from fewbits.lossy.codec import Codec, Parts, TensorSpec
from fewbits.lossy.native import FLOATS
from fewbits.lossy.noise import fractions

BLOCK = 32
AS_IS, ZIGZAG, DIFFERENCE, VERBATIM = range(4)
#: Integers are below this in magnitude, so that a difference, zigzagged, has 32 bits at most.
LARGEST = 2.0**30
_WORDS = {torch.float16: 16, torch.bfloat16: 16, torch.float32: 32, torch.float64: 64}
_BITS = {16: torch.int16, 32: torch.int32, 64: torch.int64}


@dataclass(frozen=True)
class Bounded(Codec):
    """No element differs by more than ``bound``, ever; the size follows from the values.

    ``relative_to``: the bound is ``"absolute"``, or a multiple of the tensor's ``"range"`` (largest
    minus smallest) or standard deviation ``"std"``, both over its finite elements. Elements that
    are not finite come back bit by bit, and a tensor of one value comes back exactly in the two
    relative modes. Zeros stay zeros in all of them.

    ``dither`` rounds up or down at random, by hashes of the seed and the element's place, so that
    the mean of the error is 0: gradients average errors out that lean nowhere, which lets a bound
    be far larger (several ``std``). To hold the same bound its step is half as long: one bit more.
    """

    bound: float
    relative_to: Literal["absolute", "range", "std"] = "absolute"
    dither: bool = False

    flat = True
    part_count = 3

    def __post_init__(self) -> None:
        if isinstance(self.bound, bool) or not isinstance(self.bound, int | float):
            raise TypeError(f"the bound must be a number, not {self.bound!r}")
        if not 0 < self.bound < math.inf:
            raise ValueError(f"the bound must be above 0 and finite, not {self.bound!r}")
        if self.relative_to not in ("absolute", "range", "std"):
            raise ValueError(
                f"relative_to must be 'absolute', 'range' or 'std', not {self.relative_to!r}"
            )

    def encode(self, tensor: torch.Tensor, *, seed: int = 0) -> Parts:
        self.insist(tensor)
        flat = tensor.detach().reshape(-1)
        step, limit = self._step(flat)
        kernels = _kernels(flat, flat.dtype)
        encode = kernels.encode if kernels else _encode
        return (*encode(flat, step, limit, seed if self.dither else None), step)

    def decode(self, parts: Parts, spec: TensorSpec) -> torch.Tensor:
        payload, entries, step = parts
        if len(entries) != -(-spec.numel // BLOCK) or entries.dtype != torch.uint8:
            raise ValueError(f"{len(entries)} entries are not those of {spec.numel} elements")
        kernels = _kernels(payload, spec.dtype)
        decode = kernels.decode if kernels else _decode
        return decode(payload, entries, step, spec.numel, spec.dtype).reshape(spec.shape)

    def payload(self, spec: TensorSpec) -> None:
        return None

    def nbytes(self, spec: TensorSpec) -> None:
        return None

    def refusal(self, spec: TensorSpec) -> str | None:
        return None if spec.dtype in _WORDS else f"Bounded holds floats, not {spec.dtype}"

    def allowed_error(self, tensor: torch.Tensor) -> torch.Tensor:
        return self.bound * _scale(tensor.detach().reshape(-1), self.relative_to)

    def _step(self, flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The step and the limit of the check, 1-element tensors in the dtype of the arithmetic."""
        bound = self.allowed_error(flat)
        work = _work(flat.dtype)
        room = 64 * torch.finfo(work).eps
        step = (bound * ((1 if self.dither else 2) * (1 - room))).to(work)
        limit = (bound * (1 - room / 8)).to(work)
        limit = torch.where(limit > bound, torch.nextafter(limit, torch.zeros_like(limit)), limit)
        if not bool(bound > 0):  # one value everywhere: multiples of it hold it without an error
            size = flat.abs().nan_to_num(0, 0, 0).amax().to(work)
            step = torch.where(size > 0, size, torch.ones_like(size))
        largest = torch.finfo(work).max
        return step.clamp(max=largest).reshape(1), limit.clamp(max=largest).reshape(1)


def _kernels(tensor: torch.Tensor, dtype: torch.dtype) -> Any:
    """The module that has ``encode`` and ``decode`` for this tensor; None for the plain form."""
    form = backend_for(tensor) if dtype in FLOATS else "torch"
    if form == "triton":
        from fewbits.lossy import triton_bounded

        return triton_bounded
    return native_bounded if form == "native" else None


def _work(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _scale(flat: torch.Tensor, relative_to: str) -> torch.Tensor:
    """What the bound is a multiple of, a float64 scalar."""
    if relative_to == "absolute" or not flat.numel():
        return torch.ones((), dtype=torch.float64, device=flat.device)
    measure = _range if relative_to == "range" else _std
    found = measure(flat)
    # Rounding may find a spread where there is none; elements that are not finite, and sums that
    # are not, ask for a closer look.
    if not bool(torch.isfinite(found) & (found > flat[0].abs().double() * 1e-5)):
        finite = flat[torch.isfinite(flat)].double()
        varied = finite.numel() > 0 and bool(finite.amin() < finite.amax())
        found = measure(finite) if varied else torch.zeros_like(found)
        found = torch.where(torch.isfinite(found), found, torch.zeros_like(found))
    return found


def _range(flat: torch.Tensor) -> torch.Tensor:
    least, most = torch.aminmax(flat)
    return most.double() - least.double()


def _std(flat: torch.Tensor) -> torch.Tensor:
    return flat.to(_work(flat.dtype)).std(correction=0).double()


def _encode(
    flat: torch.Tensor, step: torch.Tensor, limit: torch.Tensor, seed: int | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The words and entries of a flat tensor; ``seed`` where rounding is dithered."""
    element_bits = _WORDS[flat.dtype]
    blocks = torch.nn.functional.pad(flat, (0, -flat.numel() % BLOCK))
    values = blocks.to(step.dtype)
    shift = 0.5 if seed is None else fractions(len(values), seed, flat.device)
    rounded = torch.floor(values * (1 / step) + shift)
    held = rounded.abs() < LARGEST  # false for NaN
    rounded = torch.where(held, rounded, torch.zeros_like(rounded))
    error = (values - (rounded * step).to(flat.dtype).to(step.dtype)).abs()
    lost = ~(held & (error <= limit)).reshape(-1, BLOCK).all(1)

    whole = rounded.to(torch.int32).reshape(-1, BLOCK)
    before = torch.nn.functional.pad(whole, (1, 0))[:, :-1]
    ways = torch.stack([whole, _zigzag(whole), _zigzag(whole - before)])
    bits = _bit_length(ways)
    bits[AS_IS] = torch.where((whole < 0).any(1), element_bits, bits[AS_IS])
    fewest, way = bits.min(0)  # the first of equals
    way = torch.where(lost | (fewest >= element_bits), VERBATIM, way)
    chosen = ways.gather(0, way.clamp(max=DIFFERENCE)[None, :, None].expand(1, -1, BLOCK))[0]

    verbatim = way == VERBATIM
    counts = torch.where(verbatim, element_bits, fewest)
    planes = int(counts.max()) if counts.numel() else 0
    own = blocks.view(_BITS[element_bits]).reshape(-1, BLOCK)
    words = torch.stack(
        [
            torch.where(verbatim, _word(own, min(p, element_bits - 1)), _word(chosen, min(p, 31)))
            for p in range(planes)
        ]
        or [torch.empty(len(counts), dtype=torch.int32, device=flat.device)],
        1,
    )
    entries = torch.where(verbatim, 0, fewest) | (way << 6)
    return words[_used(counts, words.shape[1])], entries.to(torch.uint8)


def _decode(
    payload: torch.Tensor, entries: torch.Tensor, step: torch.Tensor, count: int, dtype: torch.dtype
) -> torch.Tensor:
    element_bits = _WORDS[dtype]
    way = (entries >> 6).to(torch.int64)
    verbatim = (way == VERBATIM)[:, None]
    counts = torch.where(verbatim[:, 0], element_bits, (entries & 63).to(torch.int64))
    if int(counts.sum()) != payload.numel():
        raise ValueError("the entries do not ask for as many words as there are")
    if int(counts.sum()) != payload.numel():
        raise ValueError("the entries do not ask for as many words as there are")
    planes = int(counts.max()) if counts.numel() else 0
    words = torch.zeros(len(entries), planes, dtype=torch.int32, device=payload.device)
    words[_used(counts, planes)] = payload

    lanes = torch.arange(BLOCK, device=payload.device)
    bits = torch.zeros(len(entries), BLOCK, dtype=torch.int64, device=payload.device)
    for p in range(planes):
        bits |= ((words[:, p, None] >> lanes).to(torch.int64) & 1) << p
    number = torch.where(verbatim, torch.zeros_like(bits), bits)
    unzigzagged = (number >> 1) ^ -(number & 1)
    summed = unzigzagged.cumsum(1)
    column = way[:, None]
    whole = torch.where(column == AS_IS, number, torch.where(column == ZIGZAG, unzigzagged, summed))
    values = (whole.to(step.dtype) * step).to(dtype)
    own = bits.to(_BITS[element_bits]).view(dtype)
    return torch.where(verbatim, own, values).reshape(-1)[:count]


def _zigzag(whole: torch.Tensor) -> torch.Tensor:
    return (whole << 1) ^ (whole >> 31)


def _bit_length(numbers: torch.Tensor) -> torch.Tensor:
    """Bits of the largest of each block's numbers, seen as unsigned."""
    all_bits = numbers.to(torch.int64) & 0xFFFFFFFF
    largest = all_bits.amax(-1)
    return torch.stack([largest >= 1 << p for p in range(32)]).sum(0)


def _word(numbers: torch.Tensor, bit: int) -> torch.Tensor:
    """Bit ``bit`` of 32 numbers as one int32."""
    lanes = torch.arange(BLOCK, dtype=torch.int32, device=numbers.device)
    return (((numbers >> bit) & 1).to(torch.int32) << lanes).sum(1, dtype=torch.int32)


def _used(counts: torch.Tensor, planes: int) -> torch.Tensor:
    return torch.arange(planes, device=counts.device) < counts[:, None]

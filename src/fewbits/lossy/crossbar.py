"""Quantization in blocks the size of a crossbar: what resistive crossbars can dequantize for free.

A matrix of weights goes onto crossbars of ``rows`` x ``columns`` cells. A weight of ``bits`` takes
ceil(bits / cell_bits) cells side by side, so a crossbar holds a block of ``rows`` inputs by
columns // cells outputs. Each block has one scale, and the crossbar's shift-and-add multiplies its
sums with it: nothing is dequantized on the way (Dhingra et al., Atleus, 2025; the blocks of QLoRA,
Dettmers et al., 2023, in the shape of the hardware).
"""

from dataclasses import dataclass

import torch

from fewbits.lossy.bitpack import pack_flat, packed_size, unpack_flat
from fewbits.lossy.codec import Codec, Parts, TensorSpec
from fewbits.lossy.torch_quantize import FLOAT_TYPES, TINY, round_up, to_float32

#: Codes are packed in rows of this many (`fewbits.lossy.bitpack`).
GROUP = 256


@dataclass(frozen=True)
class CrossbarQuantize(Codec):
    """``bits`` (2 to 8) for each weight, and one scale for each crossbar.

    The tensor is a matrix whose first dimension is the outputs, as PyTorch's layers keep weights;
    what follows is the inputs, all dimensions together (a convolution's channels and window).
    Weights become whole numbers from -(2^(bits-1) - 1) to 2^(bits-1) - 1 times the scale, rounded
    to the nearest, half to even; zero stays zero. Parts: the codes, with 2^(bits-1) added (flat
    uint8, see `fewbits.lossy.bitpack`), and the scales (bfloat16, rounded up, blocks of outputs by
    blocks of inputs): 2 bytes for 4096 weights at 8 bits.

    **What is not finite** cannot be on a grid: a block that holds an infinity or NaN decodes to NaN
    in every place, and other blocks are not touched.
    """

    bits: int
    rows: int = 128
    columns: int = 128
    cell_bits: int = 2

    part_count = 2

    def __post_init__(self) -> None:
        if not isinstance(self.bits, int) or not 2 <= self.bits <= 8:
            raise ValueError(f"a weight on a crossbar has 2 to 8 bits, not {self.bits!r}")
        if not isinstance(self.cell_bits, int) or not 1 <= self.cell_bits <= 4:
            raise ValueError(f"a cell holds 1 to 4 bits, not {self.cell_bits!r}")
        for name in ("rows", "columns"):
            side = getattr(self, name)
            if not isinstance(side, int) or not 1 <= side <= 1 << 16:
                raise ValueError(f"a crossbar has 1 to 65536 {name}, not {side!r}")
        if self.columns < self.cells:
            raise ValueError(
                f"a weight of {self.bits} bits takes {self.cells} cells of {self.cell_bits} bits, "
                f"more than a crossbar's {self.columns} columns"
            )

    @property
    def cells(self) -> int:
        """Cells of a weight."""
        return -(-self.bits // self.cell_bits)

    @property
    def block(self) -> tuple[int, int]:
        """Outputs and inputs that share a scale."""
        return self.columns // self.cells, self.rows

    @property
    def largest(self) -> int:
        """The largest whole number of a weight."""
        return (1 << (self.bits - 1)) - 1

    def encode(self, tensor: torch.Tensor, *, seed: int = 0) -> Parts:
        self.insist(tensor)
        matrix = self._matrix(to_float32(tensor.detach()))
        scales = self._scales(matrix)
        steps = self.spread(scales, matrix.shape)
        whole = torch.where(steps > 0, matrix / steps, 0.0).round()
        whole = whole.nan_to_num(0.0, 0.0, 0.0).clamp(-self.largest, self.largest)
        codes = (whole.to(torch.int16) + (self.largest + 1)).to(torch.uint8)
        return pack_flat(codes.reshape(-1), self.bits, GROUP), scales

    def decode(self, parts: Parts, spec: TensorSpec) -> torch.Tensor:
        whole, scales = self.integers(parts, spec)
        values = whole.to(torch.float32) * self.spread(scales, whole.shape)
        # Rounding up the scale may carry the last level past what the type holds.
        limit = min(torch.finfo(spec.dtype).max, torch.finfo(torch.float32).max)
        return values.clamp(-limit, limit).to(spec.dtype).reshape(spec.shape)

    def integers(self, parts: Parts, spec: TensorSpec) -> tuple[torch.Tensor, torch.Tensor]:
        """What stands in the cells: whole numbers (int8, outputs by inputs), and the scales."""
        codes, scales = parts
        if TensorSpec.of(codes) != self.payload(spec):
            raise ValueError(
                f"{codes.nbytes} bytes of codes are not those of {spec.numel} elements"
            )
        if TensorSpec.of(scales) != TensorSpec(self._blocks(spec), torch.bfloat16):
            raise ValueError(f"scales of shape {tuple(scales.shape)}, not {self._blocks(spec)}")
        flat = unpack_flat(codes, self.bits, GROUP, spec.numel).to(torch.int16)
        whole = (flat - (self.largest + 1)).to(torch.int8)
        return whole.view(_outputs(spec), _inputs(spec)), scales

    def payload(self, spec: TensorSpec) -> TensorSpec:
        return TensorSpec((packed_size(spec.numel, self.bits, GROUP),), torch.uint8)

    def nbytes(self, spec: TensorSpec) -> int:
        down, across = self._blocks(spec)
        return self.payload(spec).nbytes + 2 * down * across

    def refusal(self, spec: TensorSpec) -> str | None:
        if spec.dtype not in FLOAT_TYPES:
            return f"{spec.dtype} is no float of 16 to 64 bits"
        if len(spec.shape) < 2:
            return f"a tensor of {len(spec.shape)} dimensions is no matrix"
        return None

    def allowed_error(self, tensor: torch.Tensor) -> torch.Tensor:
        """Half a step of the block, and what float32 rounds off; infinite in blocks not held."""
        matrix = self._matrix(to_float32(tensor.detach()))
        steps = self.spread(self._scales(matrix), matrix.shape).double()
        bound = torch.where(steps.isnan(), torch.inf, steps * (0.5 + 2.0**-14) + TINY)
        bound = bound.reshape(tensor.shape)
        info = torch.finfo(tensor.dtype)
        rounding = max(info.eps, 2.0**-23) * (tensor.detach().double().abs() + bound)
        total = bound + rounding + 2 * float(info.smallest_normal) * info.eps
        return total.nan_to_num(torch.inf, torch.inf)

    def _matrix(self, tensor: torch.Tensor) -> torch.Tensor:
        spec = TensorSpec.of(tensor)
        return tensor.to(torch.float32).reshape(_outputs(spec), _inputs(spec))

    def _blocks(self, spec: TensorSpec) -> tuple[int, int]:
        outputs, inputs = self.block
        return -(-_outputs(spec) // outputs), -(-_inputs(spec) // inputs)

    def _scales(self, matrix: torch.Tensor) -> torch.Tensor:
        """A bfloat16 for each block; NaN where one cannot be held."""
        down, across = self._blocks(TensorSpec.of(matrix))
        # A block that is larger than the matrix ends where the matrix does.
        outputs, inputs = map(min, self.block, matrix.shape)
        pad = (0, across * inputs - matrix.shape[1], 0, down * outputs - matrix.shape[0])
        padded = torch.nn.functional.pad(matrix.abs(), pad)
        blocks = padded.view(down, outputs, across, inputs)
        top = blocks.amax((1, 3)) if padded.numel() else padded.new_zeros(down, across)
        held = torch.isfinite(top)
        scales = round_up(torch.where(held, top, 0.0) / self.largest)
        return torch.where(held & torch.isfinite(scales), scales, torch.nan).to(torch.bfloat16)

    def spread(self, scales: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Each block's scale in all places of a matrix of this shape, float32."""
        outputs, inputs = self.block
        wide = scales.to(torch.float32).repeat_interleave(outputs, 0)[: shape[0]]
        return wide.repeat_interleave(inputs, 1)[:, : shape[1]]


def _outputs(spec: TensorSpec) -> int:
    return spec.shape[0]


def _inputs(spec: TensorSpec) -> int:
    return spec.numel // spec.shape[0] if spec.shape[0] else 0

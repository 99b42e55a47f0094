"""A matrix product as resistive crossbars compute it, bit by bit: its values, not its cost.

Weights are integers of ``weight_bits``, stored with an offset of half their range (Shafiee et al.,
ISAAC, ISCA 2016, section 5), cut into digits of ``cell_bits``; a digit is the conductance of one
cell, and the digits of a weight stand in neighbouring columns. Inputs come in bit by bit, lowest
first; the last bit of a two's complement input counts negative. For each bit, every column sums its
cells' currents, a converter (ADC) makes the sum a number, and shifts and additions put bits, digits
and crossbars together. The offset is taken away at the end, from the sum of the inputs.

With 128 rows and cells of 2 bits a sum may reach 384, which takes 9 bits. ISAAC keeps the
complement of the digits in columns whose sum could exceed half of that; then 8 bits hold every sum.

>>> import numpy as np
>>> from fewbits.machines.parts.analog import Analog
>>> inputs, weights = np.array([[3, -1], [7, 2]]), np.array([[5, -128], [127, 4]])
>>> (Analog().product(inputs, weights) == inputs @ weights).all()
np.True_
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewbits.machines.parts.systolic import ceil_div

#: J/K, exact since the SI of 2019.
BOLTZMANN_J_PER_K = 1.380649e-23

Integers = NDArray[np.integer]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Read:
    """How a cell is read: what its thermal noise follows from.

    The noise current of a conductance G in a bandwidth f is sqrt(4·k·T·f·G) (Johnson and Nyquist,
    Physical Review 32, 1928); against the current of a cell that is fully on, at voltage V, that is
    sqrt(4·k·T·f/G)/V.
    """

    voltage_v: float = 0.2
    on_resistance_ohm: float = 100e3
    read_s: float = 100e-9

    def noise(self, temperature_k: float) -> float:
        """Standard deviation of one read of a cell that is on, as a share of its current."""
        if temperature_k <= 0:
            raise ValueError(f"a temperature is above 0 K, not {temperature_k}")
        bandwidth_hz = 0.5 / self.read_s
        power = 4 * BOLTZMANN_J_PER_K * temperature_k * bandwidth_hz * self.on_resistance_ohm
        return math.sqrt(power) / self.voltage_v


@dataclass(frozen=True)
class Analog:
    """A crossbar and what surrounds it; ``adc_bits=None`` converts every sum exactly.

    ``noise`` is the deviation of programming: of a cell's conductance from its level, as a share of
    the range from off to on, drawn once for each cell (Gaussian). ``read`` adds thermal noise of
    each read at ``temperature_k``. A converter rounds to integers from 0 to 2^adc_bits - 1 and
    clips. ``flip`` keeps complements as ISAAC does.
    """

    rows: int = 128
    columns: int = 128
    cell_bits: int = 2
    weight_bits: int = 8
    input_bits: int = 8
    adc_bits: int | None = 8
    flip: bool = True
    noise: float = 0.0
    read: Read | None = None
    temperature_k: float = 300.0

    def __post_init__(self) -> None:
        if not 1 <= self.cell_bits <= 4:
            raise ValueError(f"no cell holds {self.cell_bits} bits; 1 to 4 are known to be built")
        if not 1 <= self.weight_bits <= 16 or not 1 <= self.input_bits <= 16:
            raise ValueError("weights and inputs have 1 to 16 bits")
        if self.adc_bits is not None and not 1 <= self.adc_bits <= 16:
            raise ValueError(f"a converter has 1 to 16 bits, not {self.adc_bits}")
        if self.rows < 1 or self.columns < self.digits:
            raise ValueError(
                f"a weight of {self.weight_bits} bits takes {self.digits} cells, "
                f"more than the {self.columns} columns of a {self.rows}x{self.columns} crossbar"
            )
        if self.noise < 0:
            raise ValueError(f"noise is a standard deviation, not {self.noise}")

    @property
    def digits(self) -> int:
        """Cells of a weight."""
        return ceil_div(self.weight_bits, self.cell_bits)

    @property
    def weight_noise(self) -> float:
        """Standard deviation of a stored weight that programming leaves, in whole numbers.

        Each cell's deviation counts as much as its digit: sqrt(sum of base^(2·digit)) times that of
        one cell. At 8 bits in cells of 2, noise of 1 % of a cell's range is 1.6 % of 127.
        """
        base = float(1 << self.cell_bits)
        weights = base ** np.arange(self.digits)
        return self.noise * (base - 1) * float(np.sqrt((weights**2).sum()))

    def product(
        self, inputs: Integers, weights: Integers, rng: np.random.Generator | None = None
    ) -> Floats:
        """Inputs (n, K) times weights (K, N) as the machine computes it, float64 (n, N).

        Whole numbers where nothing is noisy. ``rng`` is needed where something is.
        """
        return np.asarray(self.partials(inputs, weights, rng).sum(0))

    def scaled_product(
        self,
        inputs: Integers,
        weights: Integers,
        scales: Floats,
        rng: np.random.Generator | None = None,
    ) -> Floats:
        """The same with a scale for each crossbar: (crossbars down, crossbars across).

        The scales multiply each crossbar's sums before they are added up, as crossbar-wise
        dequantization does.
        """
        partials = self.partials(inputs, weights, rng)
        across = self.columns // self.digits
        wanted = (partials.shape[0], ceil_div(weights.shape[1], across))
        if np.shape(scales) != wanted:
            raise ValueError(f"scales of shape {np.shape(scales)}, not {wanted}")
        wide = np.repeat(np.asarray(scales, np.float64), across, axis=1)[:, : weights.shape[1]]
        return np.asarray(np.einsum("bnc,bc->nc", partials, wide))

    def partials(
        self, inputs: Integers, weights: Integers, rng: np.random.Generator | None = None
    ) -> Floats:
        """Each row of crossbars' own sums: float64 (ceil(K / rows), n, N)."""
        inputs, weights = np.asarray(inputs), np.asarray(weights)
        _check_range(inputs, self.input_bits, "inputs")
        _check_range(weights, self.weight_bits, "weights")
        if inputs.ndim != 2 or weights.ndim != 2 or inputs.shape[1] != weights.shape[0]:
            raise ValueError(f"shapes {inputs.shape} and {weights.shape} do not multiply")
        if rng is None and (self.noise or self.read):
            raise ValueError("a noisy product needs a random generator")
        blocks, outputs = ceil_div(weights.shape[0], self.rows), weights.shape[1]
        cells, flipped = self._cells(weights, blocks)
        driven = self._blocks(inputs.T, blocks).transpose(0, 2, 1)  # (blocks, n, rows)
        conductances = cells
        if self.noise and rng is not None:
            top = (1 << self.cell_bits) - 1
            conductances = cells + rng.normal(0.0, self.noise * top, cells.shape)
        sums = np.zeros((blocks, inputs.shape[0], outputs))
        for bit in range(self.input_bits):
            plane = ((driven >> bit) & 1).astype(np.float64)
            codes = self._convert(self._sense(plane, conductances, rng))
            ones = plane.sum(2, keepdims=True)
            codes = np.where(flipped, ones * ((1 << self.cell_bits) - 1) - codes, codes)
            digits = codes.reshape(*codes.shape[:2], outputs, self.digits)
            weight = -(1 << bit) if bit == self.input_bits - 1 else 1 << bit
            sums += weight * (digits @ (2.0 ** (self.cell_bits * np.arange(self.digits))))
        offset = 1 << (self.weight_bits - 1)
        return np.asarray(sums - offset * driven.sum(2, dtype=np.float64)[..., None])

    def _cells(self, weights: Integers, blocks: int) -> tuple[Floats, NDArray[np.bool_]]:
        """Levels of the cells (blocks, rows, outputs · digits), and which columns are flipped."""
        stored = self._blocks(weights.astype(np.int64) + (1 << (self.weight_bits - 1)), blocks)
        shifts = self.cell_bits * np.arange(self.digits)
        top = (1 << self.cell_bits) - 1
        cells = ((stored[..., None] >> shifts) & top).reshape(blocks, self.rows, -1)
        flipped = np.zeros((blocks, 1, cells.shape[2]), np.bool_)
        if self.flip:
            flipped = 2 * cells.sum(1, keepdims=True) > self.rows * top
        return np.where(flipped, top - cells, cells).astype(np.float64), flipped

    def _blocks(self, matrix: Integers, blocks: int) -> Integers:
        """A matrix (K, x) cut into (blocks, rows, x), filled up with zeros."""
        padded = np.zeros((blocks * self.rows, matrix.shape[1]), np.int64)
        padded[: matrix.shape[0]] = matrix
        return padded.reshape(blocks, self.rows, -1)

    def _sense(
        self, plane: Floats, conductances: Floats, rng: np.random.Generator | None
    ) -> Floats:
        """Currents of the columns in units of one level: (blocks, n, outputs · digits)."""
        currents: Floats = plane @ conductances
        if self.read is None or rng is None:
            return currents
        top = (1 << self.cell_bits) - 1
        # Noise powers of the cells of a column add up; a cell's grows with its conductance.
        share = self.read.noise(self.temperature_k)
        deviation = share * np.sqrt(np.maximum(currents, 0.0) * top)
        return np.asarray(currents + rng.normal(size=currents.shape) * deviation)

    def _convert(self, currents: Floats) -> Floats:
        if self.adc_bits is None:
            return currents
        return np.asarray(np.clip(np.rint(currents), 0, (1 << self.adc_bits) - 1))


def _check_range(values: Integers, bits: int, what: str) -> None:
    if not np.issubdtype(values.dtype, np.integer):
        raise TypeError(f"{what} are integers, not {values.dtype}")
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    if values.size and (values.min() < low or values.max() > high):
        raise ValueError(
            f"{what} reach from {values.min()} to {values.max()}, beyond {bits} bits with sign"
        )

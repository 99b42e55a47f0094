"""What resistive crossbars cost: cells, cycles, energy and wear of products and of programming.

One **cycle** drives one bit slice of the inputs into all rows of a crossbar and converts all its
columns. An input of b bits takes ceil(b / dac_bits) cycles; shift-and-add, buffers and converters
follow as a pipeline (22 cycles for 16 bits: 6 more; Shafiee et al., ISAAC, ISCA 2016, section 7).
What a product computes, with noise and clipping, is in `fewbits.machines.parts.analog`.
"""

from dataclasses import dataclass

from fewbits.machines.parts.systolic import ceil_div


@dataclass(frozen=True)
class Programming:
    """Writing a matrix: ``writes`` goes to each of its cells."""

    latency_s: float
    energy_j: float
    writes: int


@dataclass(frozen=True)
class Crossbar:
    """A crossbar with its share of converters and buffers.

    Energies are those of one cycle's pieces: a converter's sample, a driver's row, a shift-and-add,
    and the rest of the crossbar's share of the tile (array, registers, buffer, bus). Writing goes
    row by row, all crossbars at once.
    """

    rows: int
    columns: int
    cell_bits: int
    dac_bits: int
    read_s: float
    pipeline_cycles: int
    adc_j: float
    dac_j: float
    shift_add_j: float
    rest_j: float
    scale_j: float
    write_j_per_bit: float
    write_s: float
    write_pulses: int
    endurance_writes: float

    def cells(self, bits: int) -> int:
        """Cells of a weight of so many bits; ``ValueError`` where no row of cells holds one."""
        if bits < 1:
            raise ValueError(f"weights have 1 bit at least, not {bits}")
        cells = ceil_div(bits, self.cell_bits)
        if cells > self.columns:
            raise ValueError(
                f"no {self.rows}x{self.columns} crossbar holds weights of {bits} bits: "
                f"its rows have {self.columns} cells of {self.cell_bits} bits"
            )
        return cells

    def across(self, bits: int) -> int:
        """Weights side by side in a crossbar; a weight's cells are never apart."""
        return self.columns // self.cells(bits)

    def count(self, k: int, n: int, bits: int) -> int:
        """Crossbars of a KxN matrix."""
        return ceil_div(k, self.rows) * ceil_div(n, self.across(bits))

    def cycles(self, vectors: int, input_bits: int) -> int:
        """Cycles of a matrix times so many vectors, one after another."""
        return vectors * ceil_div(input_bits, self.dac_bits) + self.pipeline_cycles

    @property
    def cycle_j(self) -> float:
        """Energy of one crossbar for one cycle."""
        return self.columns * (self.adc_j + self.shift_add_j) + self.rows * self.dac_j + self.rest_j

    def product_j(self, k: int, n: int, bits: int, vectors: int, input_bits: int) -> float:
        """Energy of a KxN matrix times so many vectors, without `scaling_j`."""
        cycles = vectors * ceil_div(input_bits, self.dac_bits)
        return self.count(k, n, bits) * cycles * self.cycle_j

    def scaling_j(self, k: int, n: int, vectors: int) -> float:
        """Energy of crossbar-wise dequantization: one product for each crossbar's output."""
        return vectors * ceil_div(k, self.rows) * n * self.scale_j

    def programming(self, weights: int, bits: int) -> Programming:
        """Writing so many weights once, each crossbar's rows in turn and all crossbars at once."""
        cells = weights * self.cells(bits)
        energy_j = cells * self.cell_bits * self.write_j_per_bit * self.write_pulses
        return Programming(self.rows * self.write_s * self.write_pulses, energy_j, 1)

    def lifetime_s(self, writes_per_s: float) -> float:
        """Seconds until a cell that is written so often is worn out."""
        return float("inf") if writes_per_s == 0 else self.endurance_writes / writes_per_s

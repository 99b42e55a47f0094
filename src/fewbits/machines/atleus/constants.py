"""Every number of the Atleus model, with its unit, source and kind, and the parts made from them.

The paper's full text was not at hand. ``cited`` below from "a reader's summary" is a third party's
account of that text; where nobody says, a number is ``derived`` or ``assumed`` and says why.
"""

from dataclasses import dataclass

from fewbits.errors import FewbitsError
from fewbits.machines.constants import Constant, Constants
from fewbits.machines.parts.crossbar import Crossbar
from fewbits.machines.parts.noc import Wires
from fewbits.machines.parts.systolic import Array
from fewbits.machines.parts.thermal import Stack

_SUMMARY = "a reader's summary of Atleus's full text"
_ISAAC = "Shafiee et al., ISAAC, ISCA 2016"
_ISAAC_PARTS = "ISAAC's parts as in hwcomponents-library, 32 nm"
_ACCELTRAN = "Tuli and Jha, AccelTran, 14 nm synthesis"
_HOTSPOT = "HotSpot's example configuration"

#: Energy of one conversion by bits of the converter, J; and from where.
ADC_J = {4: 0.79e-12, 5: 0.99e-12, 6: 1.20e-12, 7: 1.42e-12, 8: 1.667e-12, 9: 1.97e-12,
         10: 2.38e-12}  # fmt: skip

CONSTANTS = Constants(
    # Floor plan
    Constant("reram_tiers", 3, "", "3 ReRAM stages of the pipeline; and 3 tiers at 8 bits hold "
             "exactly the 24 layers of GPT-2 Medium", "derived", low=1),
    Constant("core_rows", 4, "", "16 cores a tier: " + _SUMMARY, "cited", low=1),
    Constant("core_columns", 4, "", "16 cores a tier: " + _SUMMARY, "cited", low=1),
    Constant("tiles", 16, "a core", _SUMMARY, "cited", low=1),
    Constant("crossbars", 96, "a tile", _SUMMARY, "cited", low=1),
    Constant("systolic_place", 3, "", "tiers from the heat sink, 0 is next to it; ReRAM next to "
             "the sink is cooler", "assumed"),
    Constant("tile_m2", 0.372e-6, "m2", "(85.4 - 22.9) mm2 / 168 tiles of " + _ISAAC, "derived"),
    # Crossbars
    Constant("crossbar_rows", 128, "", _SUMMARY, "cited", low=1),
    Constant("crossbar_columns", 128, "", _SUMMARY, "cited", low=1),
    Constant("cell_bits", 2, "bit", _SUMMARY, "cited", low=1, high=4),
    Constant("dac_bits", 1, "bit", _SUMMARY, "cited", low=1),
    Constant("adc_bits", 8, "bit", _SUMMARY, "cited", low=4, high=10),
    Constant("read_s", 100e-9, "s", _ISAAC + "; 10 ns is NeuroSim's default", "cited", low=1e-10),
    Constant("pipeline_cycles", 6, "", "22 cycles for 16 bits, " + _ISAAC + ", section 7",
             "derived"),
    Constant("dac_j", 0.417e-12, "J", _ISAAC_PARTS, "cited"),
    Constant("shift_add_j", 0.021e-12, "J", _ISAAC_PARTS, "cited"),
    Constant("rest_j", 74.4e-12, "J", "a crossbar's share of a tile's 0.330 W over 100 ns is "
             "344 pJ; less its converters, drivers, shift-and-add", "derived"),
    Constant("scale_j", 0.297e-12, "J", "a 16-bit product: 0.464 pJ at 20 bits, " + _ACCELTRAN
             + ", times (16/20)^2", "derived"),
    Constant("write_j_per_bit", 2.3e-12, "J", "40 nm ReRAM, 3D-CIMlet; 400 pJ elsewhere", "cited"),
    Constant("write_s", 50e-9, "s", "10 to 50 ns, MNSIM and NeuroSim", "cited"),
    Constant("write_pulses", 4, "", "program and verify of four levels", "assumed", low=1),
    Constant("write_power_w", 10, "W", "what programming may draw", "assumed", low=1e-3),
    Constant("endurance_writes", 1e6, "", "conservative; 1e12 is the best reported", "cited",
             low=1),
    Constant("most_copies", 1024, "", "spare crossbars hold copies, which share the tokens",
             "assumed", low=1),
    # Numbers
    Constant("attention_bits", 8, "bit", "static weights of attention (M of M8F4)", "assumed",
             low=1, high=16),
    Constant("feedforward_bits", 8, "bit", "weights of the feed-forward part (F of M8F4)",
             "assumed", low=1, high=16),
    Constant("input_bits", 8, "bit", "activations into crossbars and over links", "assumed",
             low=1, high=16),
    Constant("gradient_bits", 8, "bit", "gradients into crossbars and over links", "assumed",
             low=1, high=16),
    Constant("digital_bits", 16, "bit", "the systolic tier's numbers, adapters, caches", "assumed",
             low=1, high=32),
    # Systolic tier
    Constant("array_rows", 128, "", _SUMMARY, "cited", low=1),
    Constant("array_columns", 32, "", _SUMMARY, "cited", low=1),
    Constant("arrays", 16, "", "what all layers in flight need: 62 of its 65 TMAC/s at 1 GHz",
             "derived", low=1),
    Constant("clock_hz", 1e9, "Hz", "0.7 to 1.05 GHz in published designs", "assumed", low=1),
    Constant("mac_j", 0.464e-12, "J", "at 20 bits, " + _ACCELTRAN + "; scaled by bits squared",
             "cited"),
    Constant("mac_leak_w", 20e-6, "W", "at 20 bits, " + _ACCELTRAN + "; scaled by bits squared",
             "cited"),
    Constant("register_j_per_bit", 0.009e-12, "J", "hwcomponents-library, 40 nm, not scaled; an "
             "element passes on an operand and a sum of twice its width", "cited"),
    Constant("sram_j_per_bit", 0.155e-12, "J", "79.3 pJ for 64 B of 1 MB, " + _ACCELTRAN, "cited"),
    Constant("sram_leak_w_per_byte", 248e-9, "W/B", "248 mW a MB, " + _ACCELTRAN, "cited"),
    Constant("buffer_bytes", 262144, "B", "an array's buffer", "assumed", low=1),
    Constant("softmax_j", 0.20e-12, "J", "9.14 mW for 64 elements at 700 MHz, " + _ACCELTRAN,
             "derived"),
    Constant("norm_j", 0.28e-12, "J", "12.66 mW for 64 elements at 700 MHz, " + _ACCELTRAN,
             "derived"),
    Constant("softmax_lanes", 64, "an array", "as wide as AccelTran's", "assumed", low=1),
    # Memory beside the stack
    Constant("hbm_bytes_per_s", 256e9, "B/s", "one stack of HBM2", "cited", low=1),
    Constant("hbm_j_per_bit", 3.9e-12, "J", "O'Connor et al., Fine-Grained DRAM, MICRO 2017",
             "cited"),
    Constant("weight_ratio", 1, "", "bytes of packed weights over plain, from HBM", "assumed",
             low=0.01, high=4),
    Constant("activation_ratio", 1, "", "bytes of packed activations over plain, links and HBM",
             "assumed", low=0.01, high=4),
    # Network-on-chip
    Constant("flit_bits", 256, "bit", "ISAAC's bus width", "assumed", low=1),
    Constant("router_cycles", 2, "", "a short virtual-channel router", "assumed", low=0),
    Constant("pitch_cycles", 1, "", "a core's width of wire in a cycle", "assumed", low=0),
    Constant("vertical_cycles", 1, "", "a via between tiers", "assumed", low=0),
    Constant("router_j_per_bit", 0.081e-12, "J", "20.74 pJ for 256 bits, " + _ISAAC_PARTS,
             "cited"),
    Constant("wire_j_per_bit_m", 81e-12, "J/m", "half of 0.2 pF/mm at 0.9 V", "derived"),
    Constant("vertical_j_per_bit", 0.015e-12, "J", "hybrid bonding, 3D-CIMlet", "cited"),
    # Heat
    Constant("die_m", 150e-6, "m", _HOTSPOT, "cited", low=1e-7),
    Constant("bond_m", 20e-6, "m", _HOTSPOT + " (interface material)", "cited", low=1e-8),
    Constant("silicon_w_per_mk", 130, "W/(m K)", _HOTSPOT, "cited", low=0.01),
    Constant("bond_w_per_mk", 4, "W/(m K)", _HOTSPOT, "cited", low=0.01),
    Constant("sink_k_per_w", 0.1, "K/W", _HOTSPOT + ", a desktop's; an edge device: 1 and more",
             "cited", low=1e-4),
    Constant("ambient_k", 318.15, "K", _HOTSPOT + ", 45 C", "cited", low=1),
    Constant("most_k", 358.15, "K", "85 C, above which retention and noise are not modelled",
             "assumed", low=1),
    # Noise of a read
    Constant("read_v", 0.2, "V", "usual in ReRAM macros", "assumed", low=1e-3),
    Constant("on_ohm", 100e3, "ohm", "usual in ReRAM macros", "assumed", low=1),
)  # fmt: skip


_WHOLE = (
    "reram_tiers", "core_rows", "core_columns", "tiles", "crossbars", "systolic_place",
    "crossbar_rows", "crossbar_columns", "cell_bits", "dac_bits", "adc_bits", "pipeline_cycles",
    "write_pulses", "most_copies", "attention_bits", "feedforward_bits", "input_bits",
    "gradient_bits", "array_rows", "array_columns", "arrays", "flit_bits", "router_cycles",
    "pitch_cycles", "vertical_cycles",
)  # fmt: skip


@dataclass(frozen=True)
class Hardware:
    """The parts, and the numbers that no part has."""

    crossbar: Crossbar
    array: Array
    wires: Wires
    stack: Stack
    constants: Constants

    @classmethod
    def of(cls, constants: Constants) -> "Hardware":
        """Parts from constants; ``FewbitsError`` where they cannot be built."""
        c = constants
        for name in _WHOLE:
            if c[name] != int(c[name]):
                raise FewbitsError(f"{name}: {c[name]:g} is no whole number")
        if not 0 <= c["systolic_place"] <= c["reram_tiers"]:
            raise FewbitsError(
                f"systolic_place: {c['systolic_place']:g} of a stack of "
                f"{c['reram_tiers'] + 1:g} tiers; 0 is next to the heat sink"
            )
        side = (c["core_rows"] * c["core_columns"] * c["tiles"] * c["tile_m2"]) ** 0.5
        adc_j = c.derive("adc_j", ADC_J[int(c["adc_bits"])], "J", f"{_ISAAC_PARTS}, by adc_bits")
        pitch_m = c.derive(
            "pitch_m", side / max(c["core_rows"], c["core_columns"]), "m", "tiles' area, square"
        )
        return cls(
            Crossbar(
                rows=int(c["crossbar_rows"]),
                columns=int(c["crossbar_columns"]),
                cell_bits=int(c["cell_bits"]),
                dac_bits=int(c["dac_bits"]),
                read_s=c["read_s"],
                pipeline_cycles=int(c["pipeline_cycles"]),
                adc_j=adc_j,
                dac_j=c["dac_j"],
                shift_add_j=c["shift_add_j"],
                rest_j=c["rest_j"],
                scale_j=c["scale_j"],
                write_j_per_bit=c["write_j_per_bit"],
                write_s=c["write_s"],
                write_pulses=int(c["write_pulses"]),
                endurance_writes=c["endurance_writes"],
            ),
            Array(int(c["array_rows"]), int(c["array_columns"])),
            Wires(
                flit_bits=int(c["flit_bits"]),
                clock_hz=c["clock_hz"],
                router_cycles=int(c["router_cycles"]),
                pitch_cycles=int(c["pitch_cycles"]),
                vertical_cycles=int(c["vertical_cycles"]),
                pitch_m=pitch_m,
                router_j_per_bit=c["router_j_per_bit"],
                wire_j_per_bit_m=c["wire_j_per_bit_m"],
                vertical_j_per_bit=c["vertical_j_per_bit"],
            ),
            Stack(
                width_m=side,
                depth_m=side,
                die_m=c["die_m"],
                bond_m=c["bond_m"],
                silicon_w_per_mk=c["silicon_w_per_mk"],
                bond_w_per_mk=c["bond_w_per_mk"],
                sink_k_per_w=c["sink_k_per_w"],
                ambient_k=c["ambient_k"],
            ),
            c,
        )

    def product_j(self, bits: float) -> float:
        """A multiplication and addition in a systolic array, with what it passes on."""
        c = self.constants
        return c["mac_j"] * (bits / 20) ** 2 + 3 * bits * c["register_j_per_bit"]

    @property
    def leakage_w(self) -> float:
        """Of the systolic tier; crossbars that are not read are off."""
        c = self.constants
        elements = c["arrays"] * self.array.rows * self.array.columns
        macs_w = elements * c["mac_leak_w"] * (c["digital_bits"] / 20) ** 2
        return macs_w + c["arrays"] * c["buffer_bytes"] * c["sram_leak_w_per_byte"]

    @property
    def tiers(self) -> int:
        """ReRAM tiers and the systolic one."""
        return int(self.constants["reram_tiers"]) + 1

    @property
    def reram_places(self) -> tuple[int, ...]:
        """Places of the ReRAM tiers, from the heat sink."""
        return tuple(t for t in range(self.tiers) if t != self.systolic_place)

    @property
    def systolic_place(self) -> int:
        """Place of the systolic tier, from the heat sink."""
        return int(self.constants["systolic_place"])

    @property
    def cores(self) -> tuple[int, int]:
        """Rows and columns of cores in a tier."""
        return int(self.constants["core_rows"]), int(self.constants["core_columns"])

    @property
    def cores_a_tier(self) -> int:
        """Cores in a tier."""
        return self.cores[0] * self.cores[1]

    @property
    def crossbars(self) -> int:
        """Crossbars of all tiers."""
        c = self.constants
        return int(c["reram_tiers"] * self.cores_a_tier * c["tiles"] * c["crossbars"])

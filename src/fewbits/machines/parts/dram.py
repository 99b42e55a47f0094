"""Memory off the chip: bandwidth, and energy that goes with time or with bytes.

Of DDR4 the energy follows Micron's technical note TN-40-07 (*Calculating memory power for DDR4
SDRAM*) from the currents of a data sheet:

    background   VDD IDD3N + VPP IPP3N                       while rows are open
                 VDD IDD2N + VPP IPP3N                       while all are closed
    refresh      (VDD (IDD5B - IDD3N) + VPP (IPP5B - IPP3N)) tRFC / tREFI
    activate     VDD (IDD0 tRC - IDD3N tRAS - IDD2N (tRC - tRAS)) + VPP (IPP0 - IPP3N) tRC   a row
    read         VDD (IDD4R - IDD3N)                         while data flow; write with IDD4W
    pins         (VDD / (RON + RTT))^2 RON or RTT / 2        a driven pin while data flow

Of other memories only energy per bit is published, so all of it goes with bytes; their constants
say how good the source is.

>>> ddr4 = memory(Constants(*PRESETS["ddr4-3200"]))
>>> busy_s, moved = 1.0, 0.9 * ddr4.peak_bytes_per_s  # a second of reading at 90 % of the peak
>>> joules = ddr4.energy_j(busy_s, 1.0, moved, 0.0)
>>> round(joules / (8 * moved) * 1e12, 2)  # the paper implies 10.34 pJ/bit
10.2
"""

from dataclasses import dataclass

from fewbits.errors import FewbitsError, did_you_mean
from fewbits.machines.constants import Constant, Constants, Kind


@dataclass(frozen=True)
class Memory:
    """A memory system; numbers, or arrays in a sweep.

    ``active_w`` and ``idle_w`` go with time, while it moves data and while it waits; both include
    refresh. ``read_j_per_byte`` and ``write_j_per_byte`` come on top. ``bytes_per_s`` is what it
    delivers, ``peak_bytes_per_s`` what its pins can.
    """

    peak_bytes_per_s: float
    bytes_per_s: float
    active_w: float
    idle_w: float
    read_j_per_byte: float
    write_j_per_byte: float

    def energy_j(
        self, busy_s: float, total_s: float, read_bytes: float, written_bytes: float
    ) -> float:
        """Joules over ``total_s`` seconds, in ``busy_s`` of which data are moved."""
        background = self.active_w * busy_s + self.idle_w * (total_s - busy_s)
        return (
            background + self.read_j_per_byte * read_bytes + self.write_j_per_byte * written_bytes
        )


def preset(name: str) -> tuple[Constant, ...]:
    """The constants of a memory; ``FewbitsError`` with the nearest name for an unknown one."""
    if name not in PRESETS:
        hint = did_you_mean(name, PRESETS)
        raise FewbitsError(f"no memory is called {name!r}{hint}; known: {', '.join(PRESETS)}")
    return PRESETS[name]


def memory(c: Constants) -> Memory:
    """The memory that the constants ``dram_*`` describe."""
    if "dram_pj_per_bit" in c:
        per_byte = 8e-12 * c["dram_pj_per_bit"]
        peak = c["dram_peak_bytes_per_s"]
        return Memory(peak, peak * c["dram_efficiency"], 0.0, 0.0, per_byte, per_byte)
    return _from_currents(c)


def _from_currents(c: Constants) -> Memory:
    devices = c["dram_channels"] * c["dram_devices_per_channel"]
    volts, pump = c["dram_vdd_v"], c["dram_vpp_v"]
    open_a = c["dram_idd3n_a"]
    pump_w = pump * c["dram_ipp3n_a"]
    # A device moves its pins' bits on both edges of the clock.
    device_bytes_per_s = 2 * c["dram_data_pins"] / 8 / c["dram_tck_s"]
    peak = devices * device_bytes_per_s

    refresh_w = (
        volts * (c["dram_idd5b_a"] - open_a) + pump * (c["dram_ipp5b_a"] - c["dram_ipp3n_a"])
    ) * (c["dram_trfc_s"] / c["dram_trefi_s"])
    row_s = c["dram_tras_s"] + c["dram_trp_s"]
    activate_j = (
        volts
        * (
            c["dram_idd0_a"] * row_s
            - open_a * c["dram_tras_s"]
            - c["dram_idd2n_a"] * c["dram_trp_s"]
        )
        + pump * (c["dram_ipp0_a"] - c["dram_ipp3n_a"]) * row_s
    )
    activate_per_byte = activate_j / (c["dram_page_bytes"] * c["dram_page_share"])

    # Data and strobe pins; half of the bits are low, which is when current flows (POD12).
    pins = c["dram_data_pins"] + c["dram_strobe_pins"]
    amperes = volts / (c["dram_ron_ohm"] + c["dram_rtt_ohm"])
    pin_w = 0.5 * amperes**2 * pins
    read_w = volts * (c["dram_idd4r_a"] - open_a) + pin_w * c["dram_ron_ohm"]
    write_w = volts * (c["dram_idd4w_a"] - open_a) + pin_w * c["dram_rtt_ohm"]
    made = Memory(
        peak,
        peak * c["dram_efficiency"],
        devices * (volts * open_a + pump_w + refresh_w),
        devices * (volts * c["dram_idd2n_a"] + pump_w + refresh_w),
        read_w / device_bytes_per_s + activate_per_byte,
        write_w / device_bytes_per_s + activate_per_byte,
    )
    full = made.active_w / made.bytes_per_s + made.read_j_per_byte
    c.derive(
        "dram_streaming_pj_per_bit", full / 8e-12, "pJ/bit",
        "from the currents above, reading at dram_efficiency; APack implies 10.34",
    )  # fmt: skip
    return made


_DDR4 = "Micron 8 Gb x8 DDR4-3200, as in DRAMsim3, configs/DDR4_8Gb_x8_3200.ini"
_TCK = 0.625e-9


def _ddr4(
    name: str, value: float, unit: str, source: str = _DDR4, kind: Kind = "cited"
) -> Constant:
    return Constant(f"dram_{name}", value, unit, source, kind)


_EFFICIENCY = Constant(
    "dram_efficiency", 0.9, "", "APack, VII-B: 90 % of the peak bandwidth", "paper", high=1.0
)

DDR4_3200 = (
    _ddr4("channels", 2, "", "APack, Table III: 2 channels", "paper"),
    _ddr4(
        "devices_per_channel", 8, "",
        "64 bits from x8 devices; 16 GB as in VII-B (Table III says 8 GB)", "derived",
    ),
    _EFFICIENCY,
    _ddr4("data_pins", 8, ""),
    _ddr4("strobe_pins", 2, ""),
    _ddr4("tck_s", _TCK, "s"),
    _ddr4("tras_s", 52 * _TCK, "s"),
    _ddr4("trp_s", 22 * _TCK, "s"),
    _ddr4("trfc_s", 560 * _TCK, "s"),
    _ddr4("trefi_s", 12480 * _TCK, "s"),
    _ddr4("vdd_v", 1.2, "V"),
    _ddr4("vpp_v", 2.5, "V"),
    _ddr4("idd0_a", 0.057, "A"),
    _ddr4("ipp0_a", 0.003, "A"),
    _ddr4("idd2n_a", 0.037, "A"),
    _ddr4("idd3n_a", 0.052, "A"),
    _ddr4("ipp3n_a", 0.003, "A"),
    _ddr4("idd4r_a", 0.168, "A"),
    _ddr4("idd4w_a", 0.150, "A"),
    _ddr4("idd5b_a", 0.250, "A"),
    _ddr4("ipp5b_a", 0.028, "A", "no public table has it; of the order of data sheets", "assumed"),
    _ddr4("ron_ohm", 34, "ohm", "the usual drive strength", "assumed"),
    _ddr4("rtt_ohm", 60, "ohm", "the usual termination", "assumed"),
    _ddr4("page_bytes", 1024, "B", "1 KB page of a x8 device"),
    Constant(
        "dram_page_share", 1.0, "", "rows are streamed whole", "assumed", low=1 / 1024, high=1.0
    ),
)  # fmt: skip


def _flat(
    gbytes_per_s: float, wide: str, pj_per_bit: float, source: str, kind: Kind
) -> tuple[Constant, ...]:
    return (
        Constant("dram_peak_bytes_per_s", gbytes_per_s * 1e9, "B/s", wide, "cited"),
        _EFFICIENCY,
        Constant("dram_pj_per_bit", pj_per_bit, "pJ/bit", source, kind),
    )


_MICRON = "Micron, Ultra-bandwidth solutions: average device power"
_WEAK = "secondary sources that disagree; give your own with --set dram_pj_per_bit=..."
#: By name, what `preset` gives.
PRESETS: dict[str, tuple[Constant, ...]] = {
    "ddr4-3200": DDR4_3200,
    "gddr6": _flat(448, "256 bits at 14 Gbit/s (Micron)", 7.5, _MICRON, "cited"),
    "hbm2": _flat(
        900, "4 stacks of 1024 bits at 1.75 Gbit/s (NVIDIA V100)", 3.9,
        "O'Connor et al., Fine-Grained DRAM, MICRO 2017", "cited",
    ),
    "hbm2e": _flat(1555, "5 stacks at 2.43 Gbit/s (NVIDIA A100 40 GB)", 6.0, _MICRON, "cited"),
    "hbm3": _flat(
        3350, "5 stacks (NVIDIA H100 SXM)", 3.9, f"3.0 to 3.9: {_WEAK}", "assumed"
    ),
    "lpddr4": _flat(
        34.1, "64 bits at 4266 Mbit/s (JEDEC)", 8.0, f"4 to 14: {_WEAK}", "assumed"
    ),
    "lpddr5": _flat(
        51.2, "64 bits at 6400 Mbit/s (JEDEC)", 5.0, f"4 to 5: {_WEAK}", "assumed"
    ),
}  # fmt: skip

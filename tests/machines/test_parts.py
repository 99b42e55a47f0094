"""Memory, engines, arrays, buffers and links against cases by hand and published points."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbits.errors import FewbitsError
from fewbits.machines.constants import Constant, Constants
from fewbits.machines.parts.compute import Tiles, tile_cycles
from fewbits.machines.parts.dram import DDR4_3200, PRESETS, memory, preset
from fewbits.machines.parts.engine import APACK, engines, synthesized
from fewbits.machines.parts.link import Link, ring_all_reduce_bytes, ring_all_reduce_seconds
from fewbits.machines.parts.sram import through_buffers_bytes
from fewbits.silicon.costs import cost_of


def ddr4() -> Constants:
    return Constants(*DDR4_3200)


def test_ddr4_streams_at_the_energy_that_the_paper_implies() -> None:
    made = memory(ddr4())
    assert made.peak_bytes_per_s == pytest.approx(51.2e9)
    assert made.bytes_per_s == pytest.approx(46.08e9)
    watts = made.active_w + made.read_j_per_byte * made.bytes_per_s
    # 179.2 mW of engines are 4.7 % of it (APack, VII-B): 3.81 W.
    assert watts == pytest.approx(0.1792 / 0.047, rel=0.02)
    assert watts / made.bytes_per_s / 8e-12 == pytest.approx(10.34, rel=0.02)


def test_ddr4_by_hand() -> None:
    """The equations with the numbers put in, for 16 devices."""
    made = memory(ddr4())
    background = 1.2 * 0.052 + 2.5 * 0.003
    refresh = (1.2 * (0.250 - 0.052) + 2.5 * (0.028 - 0.003)) * 560 / 12480
    assert made.active_w == pytest.approx(16 * (background + refresh))
    assert made.idle_w == pytest.approx(16 * (1.2 * 0.037 + 2.5 * 0.003 + refresh))
    tck = 0.625e-9
    activate = (
        1.2 * tck * (0.057 * 74 - 0.052 * 52 - 0.037 * 22)
    )  # its pump current is that at rest
    pins = 0.5 * (1.2 / 94) ** 2 * 34 * 10
    read = 1.2 * (0.168 - 0.052) + pins
    assert made.read_j_per_byte == pytest.approx(read / 3.2e9 + activate / 1024)
    assert made.write_j_per_byte < made.read_j_per_byte


def test_part_of_a_page_costs_more() -> None:
    # A 64-byte line for each row that is opened: the notes' 18.3 pJ/bit, streaming at 90 %.
    made = memory(ddr4().with_values({"dram_page_share": 8 / 1024}))
    watts = made.active_w + made.read_j_per_byte * made.bytes_per_s
    assert watts / made.bytes_per_s / 8e-12 == pytest.approx(18.3, rel=0.03)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_memories(name: str) -> None:
    made = memory(Constants(*preset(name)))
    assert 0 < made.bytes_per_s <= made.peak_bytes_per_s
    streaming = made.active_w / made.bytes_per_s + made.read_j_per_byte
    assert 2 < streaming / 8e-12 < 15
    assert all(constant.source and constant.kind for constant in preset(name))


def test_an_unknown_memory_names_the_nearest() -> None:
    with pytest.raises(FewbitsError, match="did you mean 'gddr6'"):
        preset("gdr6")


def test_engines_of_the_paper() -> None:
    bank = engines(Constants(*APACK))
    assert bank.power_w == pytest.approx(0.1792)
    assert bank.area_mm2 == pytest.approx(1.14)
    assert bank.seconds(64e9) == 1.0
    assert bank.energy_j(1.0, 3.0) == pytest.approx(0.1792 * 2)  # half of it while waiting
    assert engines(Constants(*APACK), "shapeshifter").power_w == pytest.approx(0.0896)
    assert engines(Constants(*APACK), "fewbits").power_w == bank.power_w


def test_tiles_by_hand() -> None:
    tiles = Tiles(64, 4, 4, 4)
    assert tiles.macs_per_cycle == 4096  # 8.19 TOPS at 1 GHz
    assert tile_cycles(1, 256, 256, 256, tiles) == 64 * 64 / 64 * 64  # no remainder
    assert tile_cycles(1, 5, 4, 1, tiles) == 1  # two tiles for two cores
    assert tile_cycles(65, 4, 4, 5, tiles) == 2 * 2  # one more tile than cores, one more step


@given(*[st.integers(1, 300)] * 4)
def test_no_array_beats_its_peak(groups: int, m: int, n: int, k: int) -> None:
    tiles = Tiles(64, 4, 4, 4)
    assert tile_cycles(groups, m, n, k, tiles) * tiles.macs_per_cycle >= groups * m * n * k
    assert tile_cycles(groups, m + 1, n, k, tiles) >= tile_cycles(groups, m, n, k, tiles)


def test_buffers_by_hand() -> None:
    # A vector of 8 by an 8x8 matrix on tiles of 4x4: it twice, the matrix once, 8 results.
    assert through_buffers_bytes(1, 1, 8, 8, rows=4, columns=4) == 16 + 64 + 8


def steps_of_a_ring(chunks: int) -> float:
    """Share of the data each device sends when the ring is played step by step."""
    held = [set(range(device, device + 1)) for device in range(chunks)]
    sent = 0
    for _ in range(2 * (chunks - 1)):  # reduce-scatter, then all-gather: a chunk a step
        sent += 1
        held = [held[device] | held[device - 1] for device in range(chunks)]
    assert all(len(one) == chunks for one in held)
    return sent / chunks


@pytest.mark.parametrize("devices", [2, 3, 8, 16])
def test_ring_all_reduce_sends_what_a_ring_sends(devices: int) -> None:
    assert ring_all_reduce_bytes(1.0, devices) == pytest.approx(steps_of_a_ring(devices))
    link = Link(10.0, 0.5)
    seconds = ring_all_reduce_seconds(100.0, devices, link)
    assert seconds == pytest.approx(0.5 * 2 * (devices - 1) + steps_of_a_ring(devices) * 10)


def test_one_device_reduces_nothing() -> None:
    assert ring_all_reduce_seconds(100.0, 1, Link(1.0)) == 0.0


def test_constants_say_what_is_wrong() -> None:
    c = Constants(Constant("size_m", 2, "m", "test", "assumed", low=1, high=4))
    with pytest.raises(FewbitsError, match="did you mean 'size_m'"):
        c["size"]
    for value in (0, 5, float("nan"), np.array([[2.0], [9.0]])):
        with pytest.raises(FewbitsError, match=r"size_m: .* must be at least 1 and at most 4"):
            c.with_values({"size_m": value})
    changed = c.with_values({"size_m": 3})
    assert changed.describe("size_m").kind == "given" and c["size_m"] == 2
    with pytest.raises(ValueError, match="two constants"):
        Constants(c.describe("size_m"), c.describe("size_m"))
    with pytest.raises(ValueError, match="source"):
        Constant("x", 1, "", "", "assumed")
    with pytest.raises(ValueError, match="kind"):
        Constant("x", 1, "", "test", "guess")  # type: ignore[arg-type]


def test_engines_that_were_synthesized():
    encoder, decoder = cost_of("encoder, 4 stages"), cost_of("decoder, parallel, 4 stages")
    c = Constants(*APACK).with_constants(*synthesized(encoder.name, decoder.name))
    bank = engines(c)
    clock = min(encoder.clock_hz, decoder.clock_hz)
    assert bank.values_per_s == pytest.approx(64 * clock * decoder.values_per_cycle)
    assert bank.area_mm2 == pytest.approx(32e6 * (encoder.area_m2 + decoder.area_m2))
    assert bank.power_w == pytest.approx(32 * (encoder.power_w(clock) + decoder.power_w(clock)))
    with pytest.raises(ValueError, match="no unit 'encodr'"):
        synthesized("encodr")

"""The models beside those of others: DRAM beside energydram, the accelerator beside ZigZag.

Optional: ``pip install --no-deps energydram`` and ``pip install zigzag-dse six``.
"""

from pathlib import Path

import pytest

from fewbits.machines.constants import Constants
from fewbits.machines.parts.compute import Tiles, tile_cycles
from fewbits.machines.parts.dram import DDR4_3200, memory


def test_dram_energy_beside_energydram() -> None:
    energydram = pytest.importorskip("energydram")
    timing = energydram.Timing(RAS=52, REFI=12480, RFC=560, RP=22, RRD=4)
    currents = {"idd2p": 25, "idd3p": 43, "idd0": 57, "idd2n": 37, "idd3n": 52, "idd4r": 168,
                "idd4w": 150, "idd5": 250}  # fmt: skip
    pump = dict.fromkeys(currents, 3) | {"idd5": 28}
    tck = 0.625  # ns, so that its energies are in pJ: mA, V, ns
    other = energydram.EnergyDDR(
        tck, timing, 1.2, energydram.IDDs(**currents), 16, ddr=4, vpp=2.5,
        ipps=energydram.IDDs(**pump),
    )  # fmt: skip
    # Without the pins, whose termination energydram models apart.
    ours = memory(Constants(*DDR4_3200).with_values({"dram_rtt_ohm": 1e12, "dram_ron_ohm": 1e12}))
    cycle_s, refresh_s = tck * 1e-9, 12480 * tck * 1e-9
    active = other.background_energy(cycles_bankact_ckehi=1) * 1e-12 / cycle_s
    refresh = other.refresh_energy() * 1e-12 / refresh_s
    assert ours.active_w == pytest.approx(active + refresh, rel=1e-9)
    idle = other.background_energy(cycles_bankpre_ckehi=1) * 1e-12 / cycle_s
    assert ours.idle_w == pytest.approx(idle + refresh, rel=1e-9)
    burst_bytes, page_bytes = 16 * 8, 16 * 1024  # of 16 devices of 8 pins, 8 beats
    activate = other.activate_energy() * 1e-12 / page_bytes
    read = other.readwrite_energy(num_rd=1, num_wr=0) * 1e-12 / burst_bytes
    write = other.readwrite_energy(num_rd=0, num_wr=1) * 1e-12 / burst_bytes
    assert ours.read_j_per_byte == pytest.approx(read + activate, rel=1e-9)
    assert ours.write_j_per_byte == pytest.approx(write + activate, rel=1e-9)


def zigzag_cycles(folder: Path, m: int, n: int, k: int) -> tuple[float, float]:
    """Cycles that ZigZag finds for a product on 32 x 32 elements of 4 products: bare, and in all.

    The array is that of Table III, its 64 cores in a square; buffers are large and wide.
    """
    zigzag, onnx = pytest.importorskip("zigzag"), pytest.importorskip("onnx")
    import yaml
    from onnx import TensorProto, helper
    from zigzag.api import get_hardware_performance_zigzag

    given = Path(zigzag.__file__).parent / "inputs" / "hardware" / "gemm_l1.yaml"
    hardware = yaml.safe_load(given.read_text())
    hardware["operational_array"]["sizes"] = [32, 4, 32]
    hardware["memories"]["l1"]["size"] = 10**9
    for port in hardware["memories"]["l1"]["ports"]:
        port["bandwidth_max"] = 10**6
    mapping = [{
        "name": "default",
        "spatial_mapping": {"D1": ["D, 32"], "D2": ["C, 4"], "D3": ["K, 32"]},
        "temporal_ordering": [["C", "*"], ["K", "*"], ["D", "*"]],
        "memory_operand_links": {"O": "O", "W": "I2", "I": "I1"},
    }]  # fmt: skip
    for name, content in (("hardware", hardware), ("mapping", mapping)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"], "gemm")],
        "gemm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [m, k])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [m, n])],
        [helper.make_tensor("w", TensorProto.FLOAT, [k, n], [0.0] * (k * n))],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.save(onnx.shape_inference.infer_shapes(model), folder / "gemm.onnx")
    _, cycles, layers = get_hardware_performance_zigzag(
        str(folder / "gemm.onnx"), str(folder / "hardware.yaml"), str(folder / "mapping.yaml"),
        opt="latency", dump_folder=str(folder / "out"), loma_show_progress_bar=False,
    )  # fmt: skip
    return layers[0][1][0][0].ideal_temporal_cycle, cycles


@pytest.mark.parametrize("shape", [(64, 64, 64), (128, 256, 64), (100, 60, 72), (197, 96, 256)])
def test_cycles_beside_zigzag(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    bare, cycles = zigzag_cycles(tmp_path, *shape)
    assert tile_cycles(1, *shape, Tiles(cores=1, rows=32, columns=32, depth=4)) == bare
    # 64 cores that take tiles as they come waste less than a square of them, and nothing else is
    # between the two where tiles fill the square.
    ours = tile_cycles(1, *shape, Tiles(64, 4, 4, 4))
    assert ours <= bare <= cycles
    if shape[0] % 32 == shape[1] % 32 == 0:
        assert cycles == pytest.approx(ours, abs=1)

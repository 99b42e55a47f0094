"""Gates: what the library says, mapped netlists against software, and the shipped table."""

import re
from pathlib import Path

import pytest

from fewbits.silicon.costs import cost_of, unit_costs
from fewbits.silicon.library import CELLS, FLIP_FLOP_GE, areas_ge, liberty
from fewbits.silicon.technology import TECHNOLOGY


def test_areas_are_those_of_the_pairs() -> None:
    areas = areas_ge()
    assert areas["NAND2_X1"] == 1
    assert areas["INV_X1"] == pytest.approx(2 / 3)
    assert areas["NAND2_X2"] == pytest.approx(5 / 3)
    assert pytest.approx(17 / 3) == FLIP_FLOP_GE
    assert all(c.area_ge(2) > c.area_ge() for c in CELLS)


def test_the_liberty_file_has_every_cell() -> None:
    text = liberty()
    assert text.count("{") == text.count("}")
    named = set(re.findall(r"cell \((\w+)\)", text))
    assert named == set(areas_ge())


def test_every_fact_has_a_source() -> None:
    for fact in TECHNOLOGY.values():
        assert fact.source and fact.kind in ("paper", "cited", "derived", "assumed")


def test_the_shipped_table_holds_what_the_pages_claim() -> None:
    encoder = cost_of("paper's encoder")
    assert encoder.area_m2 == pytest.approx(TECHNOLOGY["encoder_m2"].value, rel=0.25)
    decoders = [u for u in unit_costs().values() if u.name.startswith("paper's decoder")]
    smallest = min(unit.area_m2 for unit in decoders)
    assert smallest == pytest.approx(TECHNOLOGY["decoder_m2"].value, rel=0.40)
    for unit in unit_costs().values():
        assert unit.area_m2 == pytest.approx(unit.area_ge * 1.44e-12 / 0.70)
        if unit.energy_j is not None:
            assert 1e-13 < unit.energy_j < 1e-10
            assert unit.power_w(1e8) == pytest.approx(
                unit.energy_j * unit.values_per_cycle * 1e8 + unit.leakage_w
            )
        if "engine" in unit.name:
            assert unit.units == 4
    with pytest.raises(ValueError, match="no unit 'coder'; there are: paper's encoder; "):
        cost_of("coder")
    with pytest.raises(ValueError, match="was not measured"):
        cost_of("encoder engine, 4 lanes").power_w(1e9)


def test_mapped_netlists_write_what_software_does() -> None:
    pytest.importorskip("amaranth")
    pytest.importorskip("pyosys")
    from fewbits.silicon import activity
    from fewbits.silicon.encoder import Encoder
    from fewbits.silicon.netlist import Netlist
    from fewbits.silicon.settings import Settings
    from fewbits.silicon.synthesis import synthesize
    from silicon_reference import encode_bits

    settings = Settings(width=4, rows=4, count_bits=6, window_bits=10, underflow_bits=6)
    made = synthesize(Encoder(settings))
    assert made.registers == made.cells["DFF"]
    assert made.cells["CLKGATE"] >= 1
    assert made.area_ge == pytest.approx(
        sum(areas_ge()[name] * count for name, count in made.cells.items()),
        rel=1e-4,
    )
    values, table = activity.work(4, 4, 6)
    netlist = activity._prepared(made.netlist, activity.packed_rows(table, settings))
    assert isinstance(netlist, Netlist)
    symbols: list[list[int]] = [[] for _ in values]
    netlist.set_all("advance", 1)
    for at in range(values.shape[1] + 1):
        if at < values.shape[1]:
            netlist.set("value", values[:, at].tolist())
        netlist.set_all("valid", at < values.shape[1])
        netlist.set_all("flush", at == values.shape[1])
        netlist.settle()
        outputs = [netlist.get(name) for name in ("code", "code_length", "inserted")]
        for bits, code, length, inserted in zip(symbols, *outputs, strict=True):
            shown = [code >> (settings.most_shifted - 1 - i) & 1 for i in range(length)]
            bits += shown[:1] + [1 - b for b in shown[:1]] * inserted + shown[1:]
        netlist.tick()
    for bits, row in zip(symbols, values, strict=True):
        assert bits == encode_bits(row, table, settings.window_bits)[0]
    assert 1e-13 < netlist.energy_j < 1e-11
    assert netlist.clocked > 0


def test_another_liberty_file_will_do(tmp_path: Path) -> None:
    pytest.importorskip("amaranth")
    pytest.importorskip("pyosys")
    from fewbits.errors import FewbitsError
    from fewbits.silicon.arbiter import RoundRobin
    from fewbits.silicon.synthesis import synthesize

    # Twice as large, with other names and without a clock gate: as many gate equivalents.
    text = re.sub(r"(\barea : )([\d.]+)", lambda m: f"{m[1]}{2 * float(m[2]):.4f}", liberty())
    text = text[: text.index("  cell (CLKGATE)")] + "}\n"
    text = text.replace("NAND2_X", "sky_nand2_").replace("INV_X", "sky_inv_")
    path = tmp_path / "mine.lib"
    path.write_text(text)
    made = synthesize(RoundRobin(3), liberty=path)
    assert "sky_nand2_1" in made.cells
    ours = synthesize(RoundRobin(3))
    assert made.area_ge == pytest.approx(ours.area_ge, rel=0.1)
    with pytest.raises(FewbitsError, match="No such file"):
        synthesize(RoundRobin(2), liberty=tmp_path / "none.lib")
    path.write_text("library (empty) { }")
    with pytest.raises(FewbitsError):
        synthesize(RoundRobin(2), liberty=path)

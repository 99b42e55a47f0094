import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbits.errors import FewbitsError
from fewbits.machines.atleus.constants import CONSTANTS, Hardware
from fewbits.machines.atleus.mapping import (
    check_targets,
    map_network,
    matrices,
    mixed_bits,
    overlaps,
)
from fewbits.machines.atleus.models import find, names


def mapped(name="gpt2-medium", backward=None, **values):
    hardware = Hardware.of(CONSTANTS.with_values(values).recording())
    return map_network(find(name)[1], hardware, backward)


@pytest.mark.parametrize("name", ["gpt2-medium", "bert-large", "bloom-560m"])
def test_three_tiers_hold_24_layers_exactly(name):
    made = mapped(name)
    assert made.hardware.crossbars == 3 * 16 * 16 * 96 == 73728
    assert made.needed == 73728
    assert made.copies == 1
    assert made.fill == 1.0


def test_each_third_of_a_layer_has_a_tier():
    made = mapped()
    tiers = {matrix.name: made.tiers(matrix) for matrix in matrices(made.net)}
    assert [set(tiers[name]) for name in ("query", "key", "value", "output")] == [{0}] * 4
    assert set(tiers["up"]) == {1} and set(tiers["down"]) == {2}
    lower = mapped(systolic_place=0)
    assert {t for m in matrices(lower.net) for t in lower.tiers(m)} == {1, 2, 3}


@given(st.integers(1, 40), st.integers(1, 20))
def test_shares_cover_every_interval(parts, count):
    for index in range(count):
        found = overlaps(index / count, (index + 1) / count, parts)
        assert sum(found.values()) == pytest.approx(1.0)
        assert all(0 <= part < parts for part in found)


def test_gated_layers_and_grouped_queries_by_hand():
    net = find("llama-3-8b")[1]
    shapes = {matrix.name: (matrix.k, matrix.n) for matrix in matrices(net)}
    assert shapes["key"] == shapes["value"] == (4096, 1024)
    assert shapes["gate"] == shapes["up"] == (4096, 14336)
    assert shapes["down"] == (14336, 4096)


def test_small_networks_are_copied():
    made = mapped("minilm")
    assert made.copies == made.hardware.crossbars // made.needed >= 10


def test_what_does_not_fit_says_by_how_much_and_what_would():
    with pytest.raises(FewbitsError) as error:
        mapped("llama-3-8b")
    assert str(error.value) == (
        "the weights do not fit: 1703936 crossbars of 73728 there are (23.1 times as many); "
        "70 ReRAM tiers (--set reram_tiers=70) would"
    )
    assert mapped("llama-3-8b", reram_tiers=70).copies == 1
    with pytest.raises(FewbitsError, match=r"transposed reads .* or 4-bit weights"):
        mapped(backward="duplicated")
    assert mapped(backward="duplicated", attention_bits=4, feedforward_bits=4).copies == 1


def test_bits_that_no_cell_holds_are_named():
    with pytest.raises(FewbitsError, match="attention_bits: no 128x4 crossbar holds weights of 16"):
        mapped(crossbar_columns=4, attention_bits=16)


@given(st.integers(2, 8), st.integers(2, 8))
def test_fewer_bits_never_take_more_crossbars(one, other):
    low, high = min(one, other), max(one, other)
    fewer = mapped(attention_bits=low, feedforward_bits=low)
    more = mapped(attention_bits=high, feedforward_bits=high)
    assert fewer.needed <= more.needed
    assert fewer.copies >= more.copies
    assert fewer.fill <= 1.0


def test_mixed_bits():
    assert mixed_bits("M8F4") == (8, 4)
    assert mixed_bits("m4f2") == (4, 2)
    assert mixed_bits("6") == (6, 6)
    for wrong in ("F4", "M8", "8F4", ""):
        with pytest.raises(FewbitsError, match="no bits such as 8 or M8F4"):
            mixed_bits(wrong)


def test_names_and_targets():
    assert {"bert_large", "gpt2_medium", "bloom_560m", "llama_3_8b"} <= set(names())
    assert find("GPT2-Medium")[0] == "gpt2_medium"
    with pytest.raises(FewbitsError, match="did you mean 'bert_large'"):
        find("bert-lagre")
    net = find("bert-large")[1]
    assert [m.name for m in check_targets(("q", "down"), net)] == ["query", "down"]
    with pytest.raises(FewbitsError, match=r"no matrix is called 'qurey'.*did you mean 'query'"):
        check_targets(("qurey",), net)


def test_a_config_file_will_do(tmp_path):
    path = tmp_path / "tiny" / "config.json"
    path.parent.mkdir()
    path.write_text(
        '{"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 9}'
    )
    assert find(str(path)) == find(str(path.parent)) == ("tiny", find(str(path))[1])
    assert find(str(path))[1].hidden == 64
    with pytest.raises(FewbitsError, match="No such file"):
        find(str(tmp_path / "config.json"))


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"systolic_place": 7}, "systolic_place: 7 of a stack of 4 tiers"),
        ({"adc_bits": 6.5}, "adc_bits: 6.5 is no whole number"),
        ({"tiles": 2.5}, "tiles: 2.5 is no whole number"),
        ({"read_s": -1}, "read_s: -1 must be at least"),
        ({"core_rows": 0}, "core_rows: 0 must be at least 1"),
        ({"cell_bits": 9}, "cell_bits: 9 must be at least 1 and at most 4"),
    ],
)
def test_hardware_that_cannot_be_built_is_named(values, fault):
    with pytest.raises(FewbitsError, match=fault):
        mapped(**values)

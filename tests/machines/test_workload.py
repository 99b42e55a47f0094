"""Operations, batches, backward passes, and the networks that come along."""

import pytest

from fewbits.errors import FewbitsError
from fewbits.machines import networks
from fewbits.machines.workload import Convolution, Workload, convolution, embedding, linear, product


def test_a_convolution_by_hand() -> None:
    # 3x3 over 8 channels to 16 in 2 groups, 10x10 -> 5x5: 25 places, 8 filters of 4*9 weights each.
    window = Convolution(8, 16, (10, 10), (5, 5), (3, 3), (2, 2), groups=2)
    made = convolution("c", window)
    assert (made.groups, made.m, made.n, made.k) == (2, 25, 8, 36)
    assert (made.macs, made.weights, made.inputs, made.outputs) == (14400, 576, 800, 400)
    with pytest.raises(ValueError, match="3 groups"):
        convolution("c", Convolution(8, 16, (1, 1), (1, 1), (1, 1), groups=3))


def test_backward_multiplies_as_much_for_each_operand() -> None:
    net = Workload(
        "n",
        (
            linear("a", 5, 3, 4, trained_before=False),
            product("p", 2, 5, 6, 7),
            linear("b", 5, 4, 2),
        ),
    )
    training = net.training()
    macs = {op.name: op.macs for op in training.operations}
    assert macs == {
        "a": 60, "p": 420, "b": 40, "b.d_input": 40, "b.d_weight": 40,
        "p.d_left": 420, "p.d_right": 420, "a.d_weight": 60,
    }  # fmt: skip
    by_name = {op.name: op for op in training.operations}
    assert by_name["b.d_weight"].outputs == 8 and not by_name["b.d_weight"].static
    assert by_name["b.d_input"].outputs == by_name["b"].inputs
    assert by_name["p.d_right"].outputs == 2 * 6 * 7


def test_batches_scale_what_depends_on_samples() -> None:
    net = Workload("n", (linear("a", 1, 3, 4), product("p", 2, 5, 6, 7), embedding("e", 2, 100, 8)))
    four = net.with_batch(4)
    assert [op.macs for op in four.operations] == [48, 4 * 420, 0]
    assert [op.weights for op in four.operations] == [12, 0, 64]
    assert four.stored_bytes == net.stored_bytes == 12 + 800
    assert four.with_batch(1) == net


@pytest.mark.parametrize("name", networks.names())
def test_networks_are_whole(name: str) -> None:
    net = networks.load(name)
    about = networks.about(name)
    assert about.title and about.made_by
    assert len(set(net.names)) == len(net)
    assert net.with_batch(3).macs == 3 * net.macs
    for op in () if net.operations[0].kind == "embedding" else net.operations:
        assert networks._operation(networks.to_row(op)) == op


def test_an_unknown_network_names_the_nearest() -> None:
    with pytest.raises(FewbitsError, match="did you mean 'resnet50'"):
        networks.load("resnet5O")


def test_the_paper_s_networks_are_all_here() -> None:
    rows = [networks.about(name).paper_row for name in networks.of_paper()]
    assert len(rows) == 24
    assert {"bert_large", "gpt2_medium", "llama_3_8b", "alexnet", "resnet34", "unet"} <= set(
        networks.names()
    )


@pytest.mark.parametrize(
    ("name", "giga_macs"),
    # As torchvision's table of models has them (GFLOPS), and MLPerf's of its detectors, halved.
    [("resnet50", 4.09), ("googlenet", 1.50), ("mobilenet_v2", 0.30), ("shufflenet_v2", 0.14),
     ("inception_v3", 5.71), ("resnext101", 16.41), ("resnet34", 3.66), ("ssd_resnet34", 216.4),
     ("ssd_mobilenet", 1.24), ("alexnet", 0.71)],
)  # fmt: skip
def test_products_are_those_that_are_published(name: str, giga_macs: float) -> None:
    assert networks.load(name).macs / 1e9 == pytest.approx(giga_macs, rel=0.02, abs=0.006)

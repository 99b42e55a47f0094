import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbits.machines.parts.analog import Analog, Read


def operands(analog, n, k, outputs, seed):
    rng = np.random.default_rng(seed)
    top, high = 1 << (analog.input_bits - 1), 1 << (analog.weight_bits - 1)
    return rng.integers(-top, top, (n, k)), rng.integers(-high, high, (k, outputs))


exact = st.builds(
    Analog,
    rows=st.sampled_from([1, 7, 32, 128]),
    cell_bits=st.integers(1, 4),
    weight_bits=st.integers(1, 9),
    input_bits=st.integers(1, 9),
    adc_bits=st.none(),
    flip=st.booleans(),
)


@given(exact, st.integers(1, 3), st.integers(1, 260), st.integers(1, 9), st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_without_noise_and_clipping_it_is_the_integer_product(analog, n, k, outputs, seed):
    inputs, weights = operands(analog, n, k, outputs, seed)
    assert (analog.product(inputs, weights) == inputs @ weights).all()


@given(st.integers(1, 300), st.integers(0, 99), st.sampled_from(["random", "low", "high"]))
@settings(max_examples=40, deadline=None)
def test_isaac_needs_eight_bits_of_converter(k, seed, kind):
    # 128 rows of 2 bits may sum to 384, but never where columns above half are complemented
    inputs, weights = operands(Analog(), 2, k, 5, seed)
    if kind != "random":
        weights[:] = -128 if kind == "low" else 127
        inputs[:] = -1  # all ones in every bit
    assert (Analog(adc_bits=8).product(inputs, weights) == inputs @ weights).all()


def test_a_converter_that_is_too_small_clips():
    inputs = np.full((1, 128), 127)
    weights = np.full((128, 1), 127)
    without = Analog(adc_bits=8, flip=False)
    assert without.product(inputs, weights)[0, 0] < (inputs @ weights)[0, 0]
    # By hand: 7 input bits, each column's 128 cells hold 3, 3, 3, 3 (255 = 127 + 128): sums of 384
    # come out as 255; 255 * (1 + 4 + 16 + 64) * 127 - 128 * 128 * 127.
    assert without.product(inputs, weights)[0, 0] == 255 * 85 * 127 - 128 * 128 * 127
    exact = Analog(adc_bits=9, flip=False)
    assert exact.product(inputs, weights)[0, 0] == (inputs @ weights)[0, 0]


def test_noise_is_right_on_average_and_grows():
    analog = Analog(adc_bits=None)
    inputs, weights = operands(analog, 8, 256, 16, 1)
    wanted = inputs @ weights
    errors = []
    for noise in (0.01, 0.02, 0.05):
        noisy = Analog(adc_bits=None, noise=noise)
        runs = [noisy.product(inputs, weights, np.random.default_rng(s)) for s in range(24)]
        error = np.stack(runs) - wanted
        errors.append(error.std())
        # The mean over 24 draws lies within 5 of its own deviations of zero, nearly everywhere.
        assert (np.abs(error.mean(0)) < 5 * error.std(0) / np.sqrt(24)).mean() > 0.97
    assert errors == sorted(errors)
    assert errors[1] == pytest.approx(2 * errors[0], rel=0.1)


def test_noise_of_one_cell_by_hand():
    # One input of 1 and one weight in one cell: the error is the cell's noise times its range.
    noisy = Analog(rows=1, cell_bits=2, weight_bits=2, input_bits=2, adc_bits=None, noise=0.1)
    rng = np.random.default_rng(0)
    got = [noisy.product(np.array([[1]]), np.array([[1]]), rng)[0, 0] for _ in range(4000)]
    assert np.std(got) == pytest.approx(0.3, rel=0.05)


@pytest.mark.parametrize(("cell_bits", "weight_bits"), [(2, 8), (2, 5), (1, 4), (4, 8)])
def test_noise_of_cells_is_noise_of_weights(cell_bits, weight_bits):
    noisy = Analog(cell_bits=cell_bits, weight_bits=weight_bits, noise=0.02, adc_bits=None)
    weights = np.zeros((1, 3000), int)
    rng = np.random.default_rng(0)
    got = noisy.product(np.ones((1, 1), int), weights, rng)
    assert got.std() == pytest.approx(noisy.weight_noise, rel=0.06)
    if (cell_bits, weight_bits) == (2, 8):
        assert noisy.weight_noise == pytest.approx(0.02 * 3 * np.sqrt(1 + 16 + 256 + 4096))


def test_thermal_noise_follows_the_root_of_temperature():
    read = Read(voltage_v=0.2, on_resistance_ohm=100e3, read_s=100e-9)
    # sqrt(4 * 1.380649e-23 * 300 * 5e6 * 1e5) / 0.2
    assert read.noise(300) == pytest.approx(4.5509e-4, rel=1e-3)
    assert read.noise(1200) == pytest.approx(2 * read.noise(300))
    analog = Analog(adc_bits=None, read=read)
    inputs, weights = operands(analog, 16, 128, 32, 3)
    spread = []
    for kelvin in (300.0, 1200.0):
        warm = Analog(adc_bits=None, read=read, temperature_k=kelvin)
        rng = np.random.default_rng(1)
        spread.append((warm.product(inputs, weights, rng) - inputs @ weights).std())
    assert spread[1] == pytest.approx(2 * spread[0], rel=0.1)


def test_the_converter_rounds_small_noise_away():
    analog = Analog(read=Read(), temperature_k=358.0)
    inputs, weights = operands(analog, 8, 256, 16, 5)
    got = analog.product(inputs, weights, np.random.default_rng(0))
    assert (got == inputs @ weights).all()


def test_converters_round_small_cell_noise_away_and_add_to_large():
    inputs, weights = operands(Analog(), 8, 256, 16, 6)
    wanted = inputs @ weights

    def error(noise, adc_bits):
        noisy = Analog(noise=noise, adc_bits=adc_bits)
        return (noisy.product(inputs, weights, np.random.default_rng(2)) - wanted).std()

    assert error(0.004, 8) < 0.02 * error(0.004, None)
    assert error(0.02, 8) > 1.1 * error(0.02, None)


def test_each_crossbar_has_its_scale():
    analog = Analog(rows=4, columns=8, cell_bits=2, weight_bits=4, input_bits=4, adc_bits=None)
    inputs, weights = operands(analog, 3, 10, 7, 2)
    scales = np.array([[1.0, 10.0], [100.0, 0.5], [0.0, 2.0]])  # 3 crossbars down, 2 across
    wanted = np.zeros((3, 7))
    for block in range(3):
        rows = slice(4 * block, 4 * block + 4)
        for across, columns in enumerate((slice(0, 4), slice(4, 7))):
            part = inputs[:, rows] @ weights[rows, columns]
            wanted[:, columns] += scales[block, across] * part
    assert analog.scaled_product(inputs, weights, scales) == pytest.approx(wanted)
    with pytest.raises(ValueError, match=r"scales of shape \(3, 3\), not \(3, 2\)"):
        analog.scaled_product(inputs, weights, np.ones((3, 3)))


def test_the_crossbar_quantizer_runs_on_it():
    torch = pytest.importorskip("torch")
    from fewbits.lossy import CrossbarQuantize, TensorSpec

    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(70, 300, generator=generator)  # outputs by inputs
    codec = CrossbarQuantize(6)
    spec, parts = TensorSpec.of(weights), codec.encode(weights)
    whole, scales = codec.integers(parts, spec)
    inputs = np.random.default_rng(0).integers(-128, 128, (5, 300))
    analog = Analog(weight_bits=6)
    got = analog.scaled_product(inputs, whole.numpy().T, scales.float().numpy().T)
    wanted = inputs @ codec.decode(parts, spec).double().numpy().T
    assert got == pytest.approx(wanted, rel=1e-5, abs=1e-3)


def test_wrong_settings_are_named():
    for settings_, fault in (
        ({"cell_bits": 5}, "no cell holds 5 bits"),
        ({"adc_bits": 0}, "1 to 16 bits, not 0"),
        ({"weight_bits": 16, "columns": 4}, "takes 8 cells, more than the 4 columns"),
        ({"noise": -0.1}, "not -0.1"),
    ):
        with pytest.raises(ValueError, match=fault):
            Analog(**settings_)
    with pytest.raises(ValueError, match="reach from 0 to 200, beyond 8 bits"):
        Analog().product(np.array([[0, 200]]), np.zeros((2, 1), int))
    with pytest.raises(TypeError, match="inputs are integers, not float64"):
        Analog().product(np.zeros((1, 2)), np.zeros((2, 1), int))
    with pytest.raises(ValueError, match="do not multiply"):
        Analog().product(np.zeros((1, 3), int), np.zeros((2, 1), int))
    with pytest.raises(ValueError, match="needs a random generator"):
        Analog(noise=0.1).product(np.zeros((1, 2), int), np.zeros((2, 1), int))

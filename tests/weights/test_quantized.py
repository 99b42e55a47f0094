"""Quantized weights: their error is as told, and they rest, save and load as others do."""

import copy
import gc
import weakref

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import fewbits  # noqa: E402
from fewbits import weights  # noqa: E402
from fewbits.weights.quantized import quantize_weight, scheme_named  # noqa: E402
from fewbits.weights.scratch import Scratch  # noqa: E402
from weights.models import layers  # noqa: E402

SCHEMES = ["int8", "int4", "fp8"]


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("shape", [(40, 100), (16, 3, 5, 5), (7, 64)])
def test_the_error_is_half_a_step(name, shape):
    weight = torch.randn(shape)
    weight[2] = 0
    packed = quantize_weight("w", weight, scheme_named(name), 1)
    found = packed.unpack(Scratch(), 1, True)
    assert found.shape == weight.shape and not found[2].any()
    group = packed.scheme.group or weight[0].numel()
    flat = weight.reshape(len(weight), -1)
    for start in range(0, flat.shape[1], group):
        part = flat[:, start : start + group]
        largest = part.abs().amax(1, keepdim=True)
        error = (found.reshape(len(weight), -1)[:, start : start + group] - part).abs()
        # Of e4m3 half of the last of 4 significant bits, or of the smallest step.
        fp8 = part.abs() * 2.0**-4 + largest / 448 * 2.0**-10
        bound = fp8 if name == "fp8" else largest / packed.scheme.largest / 2
        assert bool((error <= bound * 1.0001).all())
    assert torch.equal(packed.rows(1, 5, Scratch(), 1, True), found[1:5])


def test_a_small_case_by_hand():
    weight = torch.tensor([[127.0, -63.4, 0.6, 0.0], [0.0, 0.0, 0.0, 0.0]])
    packed = quantize_weight("w", weight, scheme_named("int8"), 1)
    assert packed.tensor.unpack().tolist() == [[127, -63, 1, 0], [0, 0, 0, 0]]
    assert packed.scales.tolist() == [[1.0], [0.0]]
    assert packed.unpack(Scratch(), 1, True).tolist() == [[127.0, -63.0, 1.0, 0.0], [0.0] * 4]


@pytest.mark.parametrize("name", SCHEMES)
def test_a_model_rests_quantized_and_keeps_it_through_a_file(name, tmp_path):
    model = weights.attach(layers(256, 256, 256).to(torch.bfloat16), quantize=name)
    found = weights.report(model)
    most = {"int8": 0.53, "int4": 0.33, "fp8": 0.46}[name]
    assert found.packed_bytes < most * found.unpacked_bytes
    x = torch.randn(3, 256).to(torch.bfloat16)
    expected = model(x)
    twin = copy.deepcopy(model)
    path = tmp_path / "m.safetensors"
    weights.save(model, path)
    with torch.device("meta"):
        other = layers(256, 256, 256).to(torch.bfloat16)
    weights.attach(other, path)
    assert other[0].weight.packed.codec == f"{name}, lossless"
    for same in (twin, other, weights.detach(model)):
        assert torch.equal(same(x), expected)


def test_what_is_not_finite_is_refused():
    model = layers(128, 128)
    model[0].weight.data[3, 4] = torch.nan
    with pytest.raises(ValueError, match=r"'0\.weight' holds NaN or infinity"):
        weights.attach(model, quantize="int8")


def test_a_file_whose_scales_are_gone_is_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    model = weights.attach(layers(256, 256), quantize="int8")
    weights.save(model, path)
    with fewbits.open(path) as archive:
        metadata, tensors = archive.metadata, {n: archive[n].unpack() for n in archive}
    scales = tensors.pop("0.weight.fewbits_scales")
    fewbits.save(tensors, path, metadata=metadata)
    with pytest.raises(fewbits.CorruptError, match=r"'0\.weight' has no scales"):
        weights.attach(layers(256, 256), path)
    fewbits.save({**tensors, "0.weight.fewbits_scales": scales[1:]}, path, metadata=metadata)
    with pytest.raises(fewbits.CorruptError, match=r"'0\.weight': its scales do not fit"):
        weights.attach(layers(256, 256), path)


def test_frames_that_are_replaced_are_let_go(tmp_path):
    path = tmp_path / "m.safetensors"
    fewbits.save(layers(256, 256).state_dict(), path)
    model = weights.attach(layers(256, 256), path)
    old = weakref.ref(model[0].weight.packed)
    weights.attach(model, quantize="int8")
    gc.collect()
    assert old() is None

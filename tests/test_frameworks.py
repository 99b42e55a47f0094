"""Tensors of PyTorch and JAX go in and come out with the bits they had, whichever way."""

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import fewbits
from fewbits.frameworks import as_array, converter

NEEDS = {"np": "numpy", "pt": "torch", "jax": "jax"}
# What both PyTorch and JAX have, and JAX does not narrow.
SHARED = [
    *("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32"),
    *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
    *("float16", "bfloat16", "float32", "complex64"),
]


def bits(name, shape, seed=0):
    """An array of any bits that the dtype can have."""
    dtype = np.dtype(getattr(ml_dtypes, name, None) or name)
    rng = np.random.default_rng(seed)
    if name == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    return rng.integers(0, 256, (*shape, dtype.itemsize), np.uint8).view(dtype).reshape(shape)


def same(found, array):
    return (found.dtype, found.shape, found.tobytes()) == (
        array.dtype, array.shape, array.tobytes()
    )  # fmt: skip


@pytest.mark.parametrize("saved", NEEDS)
@pytest.mark.parametrize("loaded", NEEDS)
def test_what_one_framework_saved_loads_in_another(saved, loaded, tmp_path):
    for framework in (saved, loaded):
        pytest.importorskip(NEEDS[framework], reason=f"{NEEDS[framework]} is not installed")
    arrays = {f"{n} {s}": bits(n, s) for n in SHARED for s in [(7, 5), (), (0, 3)]}
    path = tmp_path / "m.safetensors"
    fewbits.save({name: converter(saved)(array) for name, array in arrays.items()}, path)
    found = fewbits.load(path, framework=loaded)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert type(found[name]).__module__.split(".")[0].removesuffix("lib") == NEEDS[loaded]
        assert same(as_array(found[name]), array), name


def test_wide_types_go_through_pytorch(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed")
    for name in ("int64", "uint64", "float64", "complex128"):
        array = bits(name, (3, 4))
        frame = fewbits.pack(converter("pt")(array))
        assert same(as_array(converter("pt")(fewbits.unpack(frame))), array)


def test_plain_files_load_in_any_framework_too(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    path = tmp_path / "plain.safetensors"
    safetensors.numpy.save_file({"w": np.arange(6, dtype=np.float16).reshape(2, 3)}, path)
    assert torch.equal(
        fewbits.load(path, framework="pt")["w"],
        torch.arange(6, dtype=torch.float16).reshape(2, 3),
    )


def test_pytorch_tensors_of_any_kind_are_packed_as_what_they_show():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    base = torch.arange(24.0).reshape(4, 6)
    spiral = torch.view_as_complex(torch.arange(8.0).reshape(4, 2))
    for tensor in (
        torch.nn.Parameter(base),
        base.T[1:],
        base.to(torch.bfloat16).T[::2],
        base.to(torch.bfloat16).requires_grad_(),
        spiral.conj(),
        spiral.conj().imag,
    ):
        found = fewbits.unpack(fewbits.pack(tensor))
        assert np.array_equal(
            found.astype(complex), tensor.detach().to(torch.complex128).resolve_conj().numpy()
        )


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float8_e5m2"])
def test_pytorch_and_numpy_share_memory(name):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    array = np.zeros(8, np.dtype(getattr(ml_dtypes, name, None) or name))
    tensor = converter("pt")(array)
    tensor[3] = 2
    assert array[3] == 2 and tensor.dtype == getattr(torch, name)
    assert np.shares_memory(as_array(tensor), array)


def test_tensors_without_plain_elements_are_refused_by_name(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    for tensor, words in (
        (torch.zeros(3, device="meta"), "meta tensor of float32"),
        (torch.eye(3).to_sparse(), "cpu tensor of float32"),
        (torch.zeros(4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2), "float4_e2m1fn_x2"),
    ):
        with pytest.raises(TypeError, match=f"tensor 'w': cannot read a .*{words}") as caught:
            fewbits.save({"w": tensor}, tmp_path / "m")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("framework", "array"),
    [("pt", np.array(["a", "b"])), ("jax", np.array(["a", "b"])), ("pt", np.zeros(2, ">f4"))],
    ids=["pt-text", "jax-text", "pt-big-endian"],
)
def test_what_a_framework_lacks_is_refused_by_name(framework, array, tmp_path):
    pytest.importorskip(NEEDS[framework], reason=f"{NEEDS[framework]} is not installed")
    path = tmp_path / "m.safetensors"
    fewbits.save({"odd": array}, path)
    with pytest.raises(TypeError, match=r"m\.safetensors: tensor 'odd': .* has no dtype"):
        fewbits.load(path, framework=framework)


def test_pytorch_has_no_arrays_of_int4():
    pytest.importorskip("torch", reason="torch is not installed")
    with pytest.raises(TypeError, match="PyTorch has no dtype int4"):
        converter("pt")(np.zeros(2, ml_dtypes.int4))


def test_an_unknown_framework_is_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    fewbits.save({}, path)
    with pytest.raises(ValueError, match="unknown framework 'tf': there are np, pt and jax"):
        fewbits.load(path, framework="tf")


def test_numpy_users_import_no_other_framework():
    code = (
        "import sys, numpy as np, fewbits; fewbits.install(); fewbits.pack(np.zeros(9)); "
        "print({'torch', 'jax', 'transformers'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE)
    assert ran.stdout.strip() == b"set()"

"""safetensors with ``fewbits.install()``: packed files are read as the plain ones they were."""

import sys
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open

import fewbits
from fewbits import CorruptError, FewbitsError, loaders
from fewbits.files import pack_path


@pytest.fixture(autouse=True)
def _installed():
    with fewbits.install():
        yield


def tensors():
    rng = np.random.default_rng(0)
    return {
        "z.weight": rng.standard_normal((7, 12, 3)).astype(np.float32),
        "half": rng.standard_normal((64, 48)).astype(np.float16),
        "brain": rng.standard_normal((33, 5)).astype(ml_dtypes.bfloat16),
        "steps": np.arange(5),
        "scalar": np.array(2.5),
        "empty": np.zeros((0, 4), np.int8),
        "mask": np.array([True, False]),
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same tensors in a plain and in a packed file."""
    folder = tmp_path_factory.mktemp("loaders")
    plain, packed = folder / "plain.safetensors", folder / "packed.safetensors"
    safetensors.numpy.save_file(tensors(), plain, metadata={"format": "np"})
    pack_path(plain, packed)
    return plain, packed


def framework_named(name):
    package = {"pt": "torch", "flax": "jax"}.get(name, "numpy")
    pytest.importorskip(package, reason=f"{package} is not installed")
    return name


def bits(tensor):
    array = fewbits.frameworks.as_array(tensor)
    return type(tensor), array.dtype, array.shape, array.tobytes()


def outcome(function):
    """What a call gives: the bits of a tensor, another value, or an error and its words."""
    try:
        found = function()
    except Exception as error:
        return type(error), str(error)
    return bits(found) if hasattr(found, "dtype") else found


@pytest.mark.parametrize("framework", ["np", "pt", "flax"])
def test_a_packed_file_gives_what_the_plain_one_gave(files, framework):
    framework_named(framework)
    with safe_open(files[0], framework) as plain, safe_open(files[1], framework) as packed:
        assert type(plain) is loaders.original_open and type(packed) is loaders.PackedFile
        assert all(isinstance(file, safetensors.safe_open) for file in (plain, packed))
        assert packed.keys() == plain.keys()
        assert packed.offset_keys() == plain.offset_keys()
        assert packed.metadata() == plain.metadata() == {"format": "np"}
        for name in plain.keys():  # noqa: SIM118  (safe_open does not iterate)
            assert bits(packed.get_tensor(name)) == bits(plain.get_tensor(name))
            one, other = packed.get_slice(name), plain.get_slice(name)
            assert (one.get_shape(), one.get_dtype()) == (other.get_shape(), other.get_dtype())
            assert bits(one[...]) == bits(plain.get_tensor(name))
        every = packed.get_tensors()
        assert list(every) == plain.offset_keys()
        assert {n: bits(t) for n, t in every.items()} == {
            n: bits(plain.get_tensor(n)) for n in every
        }


PLACES = st.one_of(
    st.integers(-9, 9),
    st.builds(
        slice,
        st.none() | st.integers(-9, 9),
        st.none() | st.integers(-9, 9),
        st.none() | st.integers(1, 4),
    ),
)
KEYS = st.one_of(PLACES, st.just(...), st.lists(PLACES, max_size=4).map(tuple))


@pytest.mark.parametrize("framework", ["np", "pt"])
@given(key=KEYS)
@example(key=())
@settings(deadline=None)
def test_slices_are_the_frameworks_own(files, framework, key):
    framework_named(framework)
    array = fewbits.frameworks.converter(framework)(tensors()["z.weight"])
    whole = np.asarray if framework == "np" else lambda tensor: tensor  # an array, never a scalar
    packed = outcome(lambda: at(files[1], framework, key))
    direct = outcome(lambda: whole(array[key]))
    if direct[0] is IndexError:
        assert packed[0] is IndexError  # each library has its own words
        return
    assert packed == direct
    # In NumPy's name, safetensors 0.8 fails at some keys that NumPy knows: [:-1], [2:1].
    assert framework == "np" or packed == outcome(lambda: at(files[0], framework, key))


def at(file, framework, key):
    return safe_open(file, framework).get_slice("z.weight")[key]


def test_a_leading_slice_decodes_only_its_blocks(tmp_path):
    path = tmp_path / "long.safetensors"
    array = np.random.default_rng(0).integers(0, 99, (3000, 1024)).astype(np.uint8)
    fewbits.save({"w": array}, path)
    damaged = bytearray(path.read_bytes())
    damaged[-5000] ^= 1
    path.write_bytes(damaged)
    with safe_open(path, "np") as file:
        part = file.get_slice("w")
        assert np.array_equal(part[5:20, ::3], array[5:20, ::3])
        with pytest.raises(
            CorruptError, match=r"long\.safetensors: tensor 'w': block \d+ is damaged"
        ):
            part[:]
    with pytest.raises(CorruptError, match=r"long\.safetensors: tensor 'w': block \d+ is damaged"):
        safetensors.numpy.load_file(path)


def test_slices_outlive_the_file_and_the_file_says_that_it_is_closed(files):
    for path in files:
        with safe_open(path, framework="np") as file:
            part = file.get_slice("half")
        assert np.array_equal(part[3], tensors()["half"][3])
        for use in (file.keys, file.metadata, file.offset_keys, lambda f=file: f.get_slice("half")):
            with pytest.raises(SafetensorError, match="File is closed"):
                use()


def test_wrong_arguments_are_refused_as_safetensors_refuses_them(files):
    for use in (
        lambda path: safe_open(path, "zz"),
        lambda path: safe_open(path, "np", device="nowhere"),
        lambda path: safe_open(path, "np", device="cuda"),
        lambda path: safe_open(path, framework="np", backend="tape"),
        lambda path: safe_open(path, "np").get_tensor("nobody"),
        lambda path: safe_open(path, "np").get_slice("nobody"),
        lambda path: safe_open(path / "below", "np"),
    ):
        plain, packed = (outcome(lambda u=use, p=p: u(p)) for p in files)
        assert issubclass(plain[0], Exception)
        assert packed[0] is plain[0]
        assert packed[1].replace("packed.", "plain.") == plain[1]
    for path in files:
        with pytest.raises(TypeError, match="framework"):
            safe_open(path)


def test_files_in_memory_load(files):
    packed = files[1].read_bytes()
    with pytest.raises(KeyError, match="BF16"):  # as for a plain file
        safetensors.numpy.load(packed)
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from safetensors.torch import load

    found = load(packed)
    assert {n: bits(t)[1:] for n, t in found.items()} == {
        n: bits(a)[1:] for n, a in tensors().items()
    }
    assert all(isinstance(tensor, torch.Tensor) for tensor in found.values())


def test_types_that_only_safetensors_converts_go_through_it(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from safetensors.torch import load_file, save_file

    plain, packed = tmp_path / "plain.safetensors", tmp_path / "packed.safetensors"
    pairs = torch.arange(24, dtype=torch.uint8).reshape(2, 12).view(torch.float4_e2m1fn_x2)
    save_file({"f4": pairs, "w": torch.ones(3)}, plain)
    pack_path(plain, packed)
    with safe_open(packed, "pt") as file:
        assert file.get_slice("f4").get_shape() == [2, 24]
        assert file.get_slice("f4").get_dtype() == "F4"
    found = load_file(packed)["f4"]
    assert found.dtype == pairs.dtype and torch.equal(
        found.view(torch.uint8), pairs.view(torch.uint8)
    )


def test_slices_of_other_frameworks_go_through_safetensors(files, monkeypatch):
    monkeypatch.setattr(loaders, "converts", lambda framework: False)  # as TensorFlow's do
    for key in (..., 2, (slice(1, 5), 3)):
        assert bits(at(files[1], "np", key)) == bits(at(files[0], "np", key))
    assert bits(safe_open(files[1], "np").get_tensor("brain")) == bits(tensors()["brain"])


def test_what_safetensors_has_no_name_for_is_refused(tmp_path):
    path = tmp_path / "text.safetensors"
    fewbits.save({"names": np.array(["a", "bc"])}, path)
    with pytest.raises(FewbitsError, match=r"text\.safetensors: tensor 'names'.*fewbits\.load"):
        safe_open(path, "np")


def test_no_byte_of_a_packed_file_can_change_unnoticed(tmp_path):
    path = tmp_path / "small.safetensors"
    fewbits.save({"w": np.random.default_rng(0).normal(0, 1, 20).astype(np.float16)}, path)
    data = path.read_bytes()
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        # Where the header's length is damaged, nothing may tell that the file was a packed one.
        errors = (CorruptError, SafetensorError) if place < 8 else CorruptError
        with pytest.raises(errors) as caught:
            safetensors.numpy.load_file(path)
        assert place < 8 or str(path) in str(caught.value)


def test_damage_in_plain_files_is_safetensors_own_affair(files, tmp_path):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(files[0].read_bytes()[:-1])
    with pytest.raises(SafetensorError, match="not fully covered"):
        safe_open(path, "np")
    with pytest.raises(SafetensorError, match="not fully covered"):
        safetensors.numpy.load(path.read_bytes())
    path.write_bytes(files[1].read_bytes()[:-1])
    with pytest.raises(CorruptError, match=r"cut\.safetensors: .* should have"):
        safe_open(path, "np")
    with pytest.raises(CorruptError, match=r"bytes: .* should have"):
        safetensors.numpy.load(path.read_bytes())


def test_many_threads_may_read_one_file(files):
    with safe_open(files[1], "np") as file, ThreadPoolExecutor(8) as pool:
        names = file.keys() * 20
        for name, found in zip(names, pool.map(file.get_tensor, names), strict=True):
            assert bits(found) == bits(tensors()[name])


class Lazy(ModuleType):
    """A module that imports itself when it is looked at, as some do."""

    def __getattribute__(self, name):
        raise AssertionError("a lazy module was woken")


def test_names_are_replaced_wherever_they_stand_and_put_back(monkeypatch):
    fewbits.uninstall()
    module = ModuleType("some_loader")
    module.safe_open = module.other_name = safetensors.safe_open
    module.read = safetensors.deserialize
    module.own = own = object()
    monkeypatch.setitem(sys.modules, "some_loader", module)
    monkeypatch.setitem(sys.modules, "lazy_loader", Lazy("lazy_loader"))
    monkeypatch.setitem(sys.modules, "no_module", None)
    before = dict(vars(module))
    assert (
        module.safe_open is loaders.original_open
        and safetensors.numpy.safe_open is loaders.original_open
    )
    fewbits.install()
    assert module.safe_open is module.other_name is safetensors.numpy.safe_open
    assert module.safe_open is safetensors.safe_open is loaders.PackedFile
    assert module.read is safetensors.deserialize is not loaders.original_deserialize
    assert module.own is own
    fewbits.uninstall()
    assert vars(module) == before
    assert (
        safetensors.safe_open is safetensors.numpy.safe_open is safe_open is loaders.original_open
    )


def test_installing_twice_changes_nothing_and_the_outer_block_rules(files):
    fewbits.uninstall()
    fewbits.uninstall()
    assert type(safe_open(files[1], "np")) is loaders.original_open
    with fewbits.install():
        with fewbits.install():
            fewbits.install()
        assert type(safe_open(files[1], "np")) is loaders.PackedFile
    assert type(safe_open(files[1], "np")) is loaders.original_open


def test_what_only_claims_to_be_a_module_is_left_alone(monkeypatch):
    class Claims:
        __slots__ = ()
        __class__ = ModuleType

    claims = Claims()
    assert isinstance(claims, ModuleType)
    monkeypatch.setitem(sys.modules, "claims", claims)
    with fewbits.install():
        assert sys.modules["claims"] is claims

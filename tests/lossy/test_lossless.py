import pytest

torch = pytest.importorskip("torch")

from fewbits import CorruptError, unpack  # noqa: E402
from fewbits.lossy import Exact, Lossless, Quantize, TensorSpec  # noqa: E402
from lossy_contract import check  # noqa: E402

DTYPES = [
    torch.float32,
    torch.bfloat16,
    torch.float16,
    torch.float64,
    torch.int64,
    torch.int8,
    torch.uint8,
    torch.bool,
    torch.float8_e4m3fn,
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("codec", [Lossless(), Exact()], ids=repr)
def test_every_dtype_comes_back(codec, dtype):
    for shape in ((0,), (), (3, 5), (2, 0, 4)):
        x = (torch.randn(shape) * 5).to(dtype)
        check(codec, x)
    check(codec, (torch.randn(6, 8) * 5).to(dtype).t())
    check(codec, (torch.randn(2, 3, 4, 5) * 5).to(dtype).to(memory_format=torch.channels_last))


def test_what_is_not_finite_comes_back():
    check(Lossless(), torch.tensor([float("nan"), float("inf"), -0.0, -float("inf")]))


def test_the_payload_is_a_frame():
    x = torch.arange(10_000) // 100
    (frame,) = Lossless().encode(x)
    assert frame.dtype == torch.uint8 and frame.numel() < x.nbytes / 8
    assert (unpack(frame.numpy()) == x.numpy()).all()


def test_damage_is_noticed():
    x = torch.randn(5000)
    (frame,) = Lossless().encode(x)
    frame[frame.numel() // 2] ^= 1
    with pytest.raises(CorruptError):
        Lossless().decode((frame,), TensorSpec.of(x))


def test_codes_are_coded_again():
    x = torch.randn(50_000) ** 3
    codec = Quantize(8) + Lossless()
    assert sum(part.nbytes for part in codec.encode(x)) < 0.95 * Quantize(8).nbytes(
        TensorSpec.of(x)
    )
    check(codec, x)


@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_a_dtype_that_frames_have_not_is_refused():
    assert "complex32" in Lossless().refusal(TensorSpec((3,), torch.complex32))


def test_exact_copies_nothing():
    x = torch.randn(4)
    assert Exact().encode(x)[0].data_ptr() == x.data_ptr()

import pytest

torch = pytest.importorskip("torch")

from fewbits.lossy import Exact, Quantize, TensorSpec, packed_nbytes  # noqa: E402
from fewbits.lossy.backend import backend_for  # noqa: E402


def test_a_spec_knows_its_size():
    spec = TensorSpec.of(torch.empty(3, 4, dtype=torch.bfloat16))
    assert spec == TensorSpec((3, 4), torch.bfloat16)
    assert (spec.numel, spec.nbytes) == (12, 24)
    assert TensorSpec((), torch.float64).nbytes == 8


def test_views_pay_for_the_storage_they_keep():
    whole = torch.empty(100)
    assert packed_nbytes((whole[:1],)) == 400
    assert packed_nbytes((whole[:1], whole[50:])) == 400
    assert packed_nbytes((whole[:1], torch.empty(1))) == 404


def test_parts_of_codecs_keep_no_larger_storage():
    x = torch.randn(1000)
    codec = Quantize(3)
    assert packed_nbytes(codec.encode(x)) == codec.nbytes(TensorSpec.of(x))


def test_codecs_have_no_state_and_compare_by_settings():
    assert Quantize(4) == Quantize(4, 256) != Quantize(4, 128)
    assert len({Quantize(4), Quantize(4), Exact()}) == 2
    with pytest.raises(AttributeError):
        Quantize(4).bits = 3


def test_the_form_follows_the_device_and_the_environment(monkeypatch):
    x = torch.empty(3)
    monkeypatch.delenv("FEWBITS_LOSSY", raising=False)
    assert backend_for(x) == "native"
    assert backend_for(torch.nn.Parameter(x)) == "native"
    assert backend_for(torch.empty(3, device="meta")) == "torch"
    monkeypatch.setenv("FEWBITS_LOSSY", "torch")
    assert backend_for(x) == "torch"


def test_a_compiler_traces_the_plain_form():
    codec, x = Quantize(4), torch.randn(2000)
    spec, plain = TensorSpec.of(x), codec.encode(x)
    program = torch.export.export(Packer(codec, spec), (x,))
    for mine, expected in zip(program.module()(x)[:2], plain, strict=True):
        assert torch.equal(mine, expected)
    assert torch.equal(program.module()(x)[2], codec.decode(plain, spec))


class Packer(torch.nn.Module):
    def __init__(self, codec, spec):
        super().__init__()
        self.codec, self.spec = codec, spec

    def forward(self, x):
        parts = self.codec.encode(x)
        return *parts, self.codec.decode(parts, self.spec)

"""Modules, files and dumps as text models, and back: the same outputs, the same gradients."""

import pytest

torch = pytest.importorskip("torch")
# ruff: noqa: E402

from torch import nn
from torch.nn import functional as F

from fewbits.errors import FewbitsError
from fewbits.unroll.faults import ModelError
from fewbits.unroll.generate import unroll
from fewbits.unroll.importers.exported import from_module
from fewbits.unroll.importers.printed import from_printed
from fewbits.unroll.verify import load

torch.set_num_threads(1)


class Picture(nn.Module):
    """Branches, in-place operations, functions and methods."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.body = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding="same", bias=False), nn.GroupNorm(2, 8), nn.SiLU()
        )
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.down = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        x = F.relu(self.bn(self.conv(x)), inplace=True)
        h = F.max_pool2d(x, 2)
        h = F.avg_pool2d(h + self.body(h), 3, 1, 1)
        x = torch.cat([x * self.up(h), F.leaky_relu(x)], 1)
        x = F.pad(x[:, 2:10], (1, 1, 1, 1))
        x = F.adaptive_avg_pool2d(self.down(x), (3, 2)).mean((2, 3))
        return self.fc(x / 2 - 1)


class Words(nn.Module):
    """Attention, tied weights, a parameter by itself."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(11, 16)
        self.places = nn.Parameter(torch.randn(6, 16))
        self.qkv = nn.Linear(16, 48)
        self.norm = nn.LayerNorm(16)
        self.last = nn.RMSNorm(16)
        self.head = nn.Linear(16, 11, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids):
        x = self.tokens(ids) + self.places
        parts = self.qkv(self.norm(x)).chunk(3, -1)
        q, k, v = [parts[i].view(2, 6, 2, 8).transpose(1, 2) for i in range(3)]
        att = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.head(self.last(x + F.gelu(att.transpose(1, 2).reshape(2, 6, 16))))


def same_as(module, imported, inputs):
    """The imported text, generated and run with the module's weights, against the module."""
    made = unroll(imported.text)
    assert imported.weights.keys() == made.graph.parameters.keys()
    names = load(made.source)
    parameters = {key: value.detach().double() for key, value in imported.weights.items()}
    module = module.double()
    inputs = [x.double() if x.is_floating_point() else x for x in inputs]
    expected = module(*inputs)
    target = torch.randint(5, expected.shape[:-1])
    found, _ = names["forward"](parameters, *inputs, target)
    torch.testing.assert_close(found, expected)
    F.cross_entropy(expected.flatten(0, -2), target.flatten()).backward()
    _, gradients = names["training_step"](parameters, *inputs, target)
    exact = sorted(float(p.grad.norm()) for p in module.parameters())
    ours = sorted(float(g.norm()) for g in gradients.values())
    assert ours == pytest.approx(exact, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("how", ["export", "fx"])
def test_a_module_comes_back_the_same(how):
    torch.manual_seed(0)
    for module, x in (
        (Picture(), torch.randn(2, 3, 16, 16)),
        (Words(), torch.randint(11, (2, 6))),
    ):
        source = torch.fx.symbolic_trace(module) if how == "fx" else module
        same_as(module, from_module(source, (x,), loss="cross_entropy"), [x])


def test_lines_are_named_after_the_modules():
    text = from_module(Picture(), (torch.randn(2, 3, 16, 16),)).text
    assert "conv = conv2d x out=8 kernel=3 padding=1\n" in text
    assert "body_1 = groupnorm body_0 groups=2\n" in text
    assert text.endswith("output fc\n")


def test_onnx_comes_back_the_same(tmp_path):
    pytest.importorskip("onnx")
    from fewbits.unroll.importers.onnx import from_onnx

    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.LeakyReLU(0.2), nn.MaxPool2d(2),
        nn.Sequential(nn.Conv2d(8, 4, 3, stride=2, groups=2), nn.GELU()),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5),
    )  # fmt: skip
    x = torch.randn(2, 3, 16, 16)
    torch.onnx.export(module, (x,), tmp_path / "net.onnx", dynamo=False)
    same_as(module, from_onnx(tmp_path / "net.onnx", loss="cross_entropy"), [x])
    (tmp_path / "no.onnx").write_bytes(b"no such thing")
    with pytest.raises(FewbitsError, match="not an ONNX model"):
        from_onnx(tmp_path / "no.onnx")


class Masked(nn.Module):
    """A pool whose windows end outside, and attention with a mask that is given."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 5)

    def forward(self, x, mask):
        q = F.max_pool2d(x * 2, (2, 3), 2, ceil_mode=True)
        return self.fc(F.scaled_dot_product_attention(q, q, q, attn_mask=mask).mean((1, 2)))


def test_ceilings_and_masks_come_along():
    mask = torch.where(torch.rand(4, 4) < 0.3, -1e4, 0.0)
    x = torch.randn(2, 4, 7, 6)
    imported = from_module(Masked(), (x, mask), loss="cross_entropy")
    assert "maxpool2d mul kernel=2,3 stride=2 ceil=yes" in imported.text
    module = Masked()
    same_as(module, from_module(module, (x, mask), loss="cross_entropy"), [x, mask])
    with pytest.raises(FewbitsError, match="a mask of booleans; give floats"):
        from_module(Masked().float(), (x, mask < 0))


def test_a_printed_tree_has_the_lines_of_the_module():
    module = nn.Sequential(
        nn.Conv2d(3, 8, (3, 5), padding=(1, 2), bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Sequential(nn.MaxPool2d(3, stride=2, padding=1), nn.Dropout(0.1)),
        nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Identity(), nn.Linear(8, 5),
    )  # fmt: skip
    printed = from_printed(str(module), (2, 3, 16, 16)).text.splitlines()
    exported = from_module(module, (torch.randn(2, 3, 16, 16),)).text.splitlines()

    def operations(lines):
        found = [line.partition(" = ")[2].split(" ") for line in lines if " = " in line]
        return [(words[0], *words[2:]) for words in found]

    # Flatten is a reshape once exported.
    ours = [item for item in operations(printed) if item[0] != "flatten"]
    theirs = [item for item in operations(exported) if item[0] != "reshape"]
    assert ours == theirs


def test_what_cannot_be_imported_is_named():
    class Strange(nn.Module):
        def forward(self, x):
            return torch.cumsum(x, 0)

    with pytest.raises(
        FewbitsError, match=r"no operation for aten.cumsum.*importable are: .*conv2d"
    ):
        from_module(Strange(), (torch.randn(2, 3),))
    with pytest.raises(FewbitsError, match=r"call model.train\(\) first"):
        from_module(Picture().eval(), (torch.randn(2, 3, 16, 16),))
    with pytest.raises(ModelError, match=r"dump:1:1: Picture does not tell in which order"):
        from_printed(str(Picture()), (2, 3, 16, 16), file="dump")
    with pytest.raises(ModelError, match=r"dump:2:3: no operation for LSTM"):
        from_printed(str(nn.Sequential(nn.LSTM(3, 4))), (2, 3), file="dump")
    with pytest.raises(FewbitsError, match="no loss 'hinge'"):
        from_module(nn.Linear(3, 2), (torch.randn(2, 3),), loss="hinge")

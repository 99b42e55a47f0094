"""Workloads of modules: the same products that PyTorch counts."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from fewbits.errors import FewbitsError  # noqa: E402
from fewbits.machines.modules import of_module  # noqa: E402


def counted(module: nn.Module, *inputs: torch.Tensor, backward: bool = False) -> int:
    """What PyTorch counts, as MACs."""
    module, inputs = module.to("meta"), tuple(x.to("meta") for x in inputs)
    with FlopCounterMode(display=False) as counter:
        out = module(*inputs)
        if backward:
            out.sum().backward()
    return counter.get_total_flops() // 2


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 4, 8)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).flatten(2))


MODULES = {
    "linear": (nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3)), (4, 7)),
    "convolutions": (
        nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 12, (1, 3), dilation=2),
        ),
        (2, 3, 11, 13),
    ),
    "one dimension": (nn.Sequential(nn.Conv1d(3, 8, 5), nn.Conv1d(8, 4, 1)), (2, 3, 30)),
    "transposed": (nn.ConvTranspose2d(6, 4, 2, 2), (2, 6, 5, 5)),
    "attention": (Attention(), (2, 10, 32)),
    "encoder": (nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), (2, 6, 16)),
}


@pytest.mark.parametrize("name", MODULES)
def test_macs_are_those_that_pytorch_counts(name: str) -> None:
    module, shape = MODULES[name]
    x = torch.empty(shape)
    net = of_module(module, x, batch=shape[0])
    assert net.macs == counted(module, x)
    assert net.training().macs == counted(module, x, backward=True)
    assert net.with_batch(2 * shape[0]).macs == 2 * net.macs


def test_groups_are_counted_where_pytorch_forgets_them() -> None:
    module = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, groups=8))
    x = torch.empty(1, 8, 6, 6)
    net = of_module(module, x)
    assert net.macs == counted(module, x) == 36 * 64 + 16 * 8 * 9
    # FlopCounterMode's backward formula counts all channels for each group.
    assert net.training().macs == 2 * 36 * 64 + 3 * 16 * 8 * 9
    assert counted(module, x, backward=True) > net.training().macs


def test_operations_know_their_tensors() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(),
                           nn.Linear(8 * 16, 10))  # fmt: skip
    first, last = of_module(module, torch.empty(2, 3, 8, 8), batch=2).operations
    assert (first.name, first.kind, first.weights) == ("0", "convolution", 8 * 27)
    assert (first.inputs, first.outputs) == (2 * 3 * 64, 2 * 8 * 16)
    assert not first.needs_input_gradient and last.needs_input_gradient
    # The image, the normalization's input with its mean and deviation, and what ReLU gives.
    assert first.saved == 384 + 256 + 2 * 8 + 256
    assert (last.kind, last.weights, last.saved) == ("linear", 1280, 0)


def test_a_module_that_runs_twice_gets_two_names() -> None:
    layer = nn.Linear(4, 4)
    net = of_module(nn.Sequential(layer, layer), torch.empty(1, 4))
    assert net.names == ("0", "0:2")


def test_the_module_is_left_as_it_was() -> None:
    module = nn.Linear(4, 4)
    of_module(module, torch.ones(1, 4))
    assert module.weight.device.type == "cpu"
    assert not module._forward_hooks and not module._forward_pre_hooks


class Branch(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if x.sum().item() > 0 else x


@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        (Branch(4, 4), (1, 4), "cannot run on shapes alone"),
        (nn.ReLU(), (1, 4), "multiplies nothing"),
        (nn.Linear(4, 4), (1, 5), "cannot run on shapes alone"),
        (nn.Conv3d(1, 1, 1), (1, 1, 4, 4, 4), "3 dimensions"),
    ],
)
def test_modules_that_cannot_be_read(
    module: nn.Module, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(FewbitsError, match=message):
        of_module(module, torch.empty(shape))

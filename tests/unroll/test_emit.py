"""The generated files: what compilers, linters and readers make of them."""

import ast
import importlib.util
import shutil
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
# ruff: noqa: E402

from fewbits.unroll import models
from fewbits.unroll.generate import unroll
from fewbits.unroll.verify import example, load

torch.set_num_threads(1)


def small(name, **options):
    text = models.path_of(name).read_text("utf-8")
    return unroll(text, file=f"{name}.txt", settings=unroll(text).small, **options)


NET = """
let batch = 2
input x batch 3 16 16
input y batch below=5
c1 = conv2d x out=8 kernel=3 padding=1
b1 = batchnorm c1
r1 = relu b1
p1 = maxpool2d r1 kernel=2
c2 = conv2d p1 out=8 kernel=3 padding=1
s = add c2 p1
r2 = relu s
d = dropout r2 rate=0.1
f = flatten d
logits = linear f out=5
loss = cross_entropy logits y
"""


class Step(torch.nn.Module):
    def __init__(self, names):
        super().__init__()
        self.step = names["training_step"]

    def forward(self, parameters, *inputs):
        return self.step(parameters, *inputs)


def called(made, folder):
    """What a generated file defines, imported as a user would, for compilers look for modules."""
    name = f"step_{folder.name}"  # of its own, for compilers remember modules by name
    path = folder / f"{name}.py"
    path.write_text(made.source)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    names = vars(module)
    inputs = [*example(made.graph), *([3] if made.planned.schedule.program.seeded else [])]
    return names, names["new_parameters"](), inputs


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("net", "none"),
        pytest.param("net", "dct4+int4", marks=pytest.mark.slow),
        *(
            pytest.param(name, codec, marks=pytest.mark.slow)
            for name in models.names()
            for codec in ("none", "dct4+int4")
        ),
    ],
)
def test_torch_export_takes_the_step_and_gives_the_same(name, codec, tmp_path):
    options = {"codec": codec, "profile": "portable"}
    made = unroll(NET, **options) if name == "net" else small(name, **options)
    names, parameters, inputs = called(made, tmp_path)
    program = torch.export.export(Step(names), (parameters, *inputs))
    loss, gradients = program.module()(parameters, *inputs)
    expected_loss, expected = names["training_step"](parameters, *inputs)
    assert torch.equal(loss, expected_loss)
    assert gradients.keys() == expected.keys()
    for key, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[key])
    used = {
        str(node.target).removeprefix("aten.").partition(".")[0].rstrip("_")
        for module in program.graph_module.modules()
        for node in getattr(module, "graph", program.graph).nodes
        if node.op == "call_function"
    }
    assert used <= PORTABLE, used - PORTABLE


# Matmul, convolution, elementwise operations, sums and extremes along dimensions, gather; and the
# same elements in another shape, of sizes that are fixed.
PORTABLE = {
    *("matmul", "linear", *(f"conv{rank}d" for rank in (1, 2, 3)), "conv_transpose2d"),
    *("conv_transpose1d", "conv_transpose3d"),
    *("add", "sub", "mul", "div", "neg", "abs", "exp", "erf", "tanh", "sigmoid", "log", "rsqrt"),
    *("rsub", "silu"),
    *("sqrt", "relu", "gelu", "maximum", "clamp", "where", "remainder", "floor_divide", "cos"),
    *("gt", "lt", "le", "ge", "eq", "ne", "bitwise_and", "logical_and", "isinf", "isnan", "pow"),
    *("softmax", "log_softmax", "reciprocal", "sign", "fmod", "floor"),
    *("sum", "mean", "amax", "amin", "avg_pool2d"),
    # What export writes around the whole, for no_grad and for results of several tensors.
    *("wrap_with_set_grad_enabled", "<built-in function getitem>"),
    *("gather", "embedding", "index"),
    *("view", "_unsafe_view", "reshape", "permute", "transpose", "slice", "select", "cat", "stack"),
    *("expand", "unsqueeze", "squeeze", "constant_pad_nd", "clone", "copy", "_to_copy", "t"),
    *(
        "full",
        "full_like",
        "ones_like",
        "zeros_like",
        "zeros",
        "arange",
        "eye",
        "scalar_tensor",
        "split",
        "split_with_sizes",
        "unbind",
        "alias",
    ),
    *("flatten", "numpy_T", "narrow", "pad", "to", "isfinite", "__and"),
    "_assert_tensor_metadata",
}


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["torch", "portable"])
@pytest.mark.parametrize("codec", ["none", "int4", "dct4+int8"])
def test_torch_compile_takes_the_whole_step(profile, codec, tmp_path):
    made = unroll(NET, codec=codec, profile=profile)
    names, parameters, inputs = called(made, tmp_path)
    compiled = torch.compile(names["training_step"], fullgraph=True)
    loss, gradients = compiled(parameters, *inputs)
    expected_loss, expected = names["training_step"](parameters, *inputs)
    torch.testing.assert_close(loss, expected_loss)
    # Fused, a value may round to the code beside; what is rounding's only, as the gradient of a
    # bias before a norm, is then another.
    whole = torch.stack([gradient.norm() for gradient in expected.values()]).norm()
    for key, gradient in gradients.items():
        cosine = torch.nn.functional.cosine_similarity(
            gradient.flatten(), expected[key].flatten(), 0
        )
        assert float(cosine) > 0.999 or float(expected[key].norm()) < 0.02 * whole, key


# Large enough for its batch norm to be unpacked some examples at a time.
LARGE = """\
input x 4 3 32 32
a = conv2d x out=8 kernel=3 bias=no padding=1
n = batchnorm a
s = silu n
b = conv2d s out=8 kernel=3
t = square b
loss = mean t
"""


@pytest.mark.parametrize("text", [NET, LARGE])
def test_dynamo_takes_the_step_without_a_break(text, tmp_path):
    made = unroll(text, codec="int4")
    assert ("= Packed(" in made.source) == (text is LARGE)
    names, parameters, inputs = called(made, tmp_path)
    compiled = torch.compile(names["training_step"], fullgraph=True, backend="eager")
    loss, gradients = compiled(parameters, *inputs)
    expected_loss, expected = names["training_step"](parameters, *inputs)
    assert torch.equal(loss, expected_loss)
    for key, gradient in gradients.items():  # eager sums some examples at a time
        torch.testing.assert_close(gradient, expected[key], rtol=1e-4, atol=1e-6, msg=key)


@pytest.mark.skipif(shutil.which("ruff") is None, reason="ruff is not installed")
def test_generated_files_pass_ruff(tmp_path):
    for name in models.names():
        text = models.path_of(name).read_text("utf-8")
        for codec, profile, optimizer in [
            ("none", "torch", "none"),
            ("dct4+int8", "portable", "adamw"),
            ("int4", "torch", "sgd"),
        ]:
            made = unroll(text, file=name, codec=codec, profile=profile, optimizer=optimizer)
            (tmp_path / f"{name}_{codec[:3]}_{profile}.py").write_text(made.source)
    settings = (
        'line-length = 100\nlint.select = ["E", "F", "W", "B", "I", "UP", "SIM", "C4", "D1"]\n'
    )
    settings += 'lint.ignore = ["D105"]\n'
    (tmp_path / "ruff.toml").write_text(settings)
    ran = subprocess.run(
        ["ruff", "check", "--no-cache", "--output-format=concise", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[:2000]


def test_generated_files_import_torch_alone():
    made = small("resnet18", codec="dct4+int8", optimizer="adamw")
    found = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(made.source))
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert found == ["import torch", "import torch.nn.functional as F"]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_updates_are_those_of_torch(optimizer):
    text = "input x 8 4\ninput y 8 below=3\nl = linear x out=3\nloss = cross_entropy l y\n"
    names = load(unroll(text, optimizer=optimizer).source)
    parameters = names["new_parameters"]()
    leaves = {key: value.clone().requires_grad_() for key, value in parameters.items()}
    if optimizer == "sgd":
        reference = torch.optim.SGD(leaves.values(), lr=0.1, momentum=0.9)
    else:
        reference = torch.optim.AdamW(leaves.values(), lr=0.1)
    state = names["new_state"](parameters)
    for turn in range(5):
        x, y = torch.randn(8, 4), torch.randint(3, (8,))
        loss = names["training_step"](parameters, state, x, y, lr=0.1)
        reference.zero_grad()
        _, exact = names["forward"](leaves, x, y)
        exact.backward()
        reference.step()
        assert float(loss) == pytest.approx(float(exact.detach()), rel=1e-5), turn
    for key, leaf in leaves.items():
        torch.testing.assert_close(parameters[key], leaf.detach())


def test_forward_without_loss_is_written_alone():
    made = unroll("input x 2 3\nw = linear x out=2\n")
    assert "training_step" not in made.source
    names = load(made.source)
    assert names["forward"](names["new_parameters"](), torch.randn(2, 3)).shape == (2, 2)


def test_names_and_comments_are_the_text_s():
    source = unroll(NET, codec="int4").source
    assert (
        'c1 = F.conv2d(x, p["c1.weight"], p["c1.bias"], padding=1)  # 2x8x16x16, 16.4 kB' in source
    )
    assert "p1_packed = compress_int4(p1)  # 4.1 kB -> 528 B" in source
    assert max(map(len, source.splitlines())) <= 100

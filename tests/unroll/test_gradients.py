"""Gradients of generated steps against autograd, on shipped models and on random graphs."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
# ruff: noqa: E402

from fewbits.unroll import models
from fewbits.unroll.generate import unroll
from fewbits.unroll.graph import read_model
from fewbits.unroll.operations import OPERATIONS
from fewbits.unroll.verify import TOLERANCE, check, gradients, load, relative_errors

torch.set_num_threads(1)
PROFILES = ("torch", "portable")


def shipped(name: str, **options):
    text = models.path_of(name).read_text("utf-8")
    made = unroll(text, file=name, **options)
    return unroll(text, file=name, settings=made.small, **options)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", models.names())
def test_shipped_models_agree_with_autograd(name, profile):
    made = shipped(name, profile=profile)
    errors = relative_errors(*gradients(made, torch.float64))
    assert max(errors.values()) <= TOLERANCE
    assert errors.keys() == made.graph.parameters.keys()


@pytest.mark.parametrize("name", ["resnet18", "gpt", "unet"])
def test_lossy_gradients_point_the_same_way(name):
    made = shipped(name, codec="int8")
    report = check(made)
    assert report.fine
    assert min(report.cosines.values()) > 0.9
    coarse = check(shipped(name, codec="int2"))
    mean = sum(report.cosines.values()) / len(report.cosines)
    assert sum(coarse.cosines.values()) / len(coarse.cosines) < mean


# One line or a few that try each operation in all its settings; x is 2 x 4 x 9 x 10, s 2 x 5 x 6.
LINES = {
    "conv1d": [
        "conv1d s out=4 kernel=3",
        "conv1d s out=10 kernel=2 stride=2 padding=1 dilation=2 groups=5",
    ],
    "conv2d": [
        "conv2d x out=6 kernel=3 padding=1",
        "conv2d x out=6 kernel=3,2 stride=2,3 padding=1,0 dilation=1,2 groups=2 bias=no",
        "conv2d x out=4 kernel=1 stride=4 groups=4",
    ],
    "conv3d": ["conv3d v out=4 kernel=2 stride=2,1,1 padding=0,1,1 groups=2"],
    "conv_transpose1d": ["conv_transpose1d s out=3 kernel=3 stride=2 output_padding=1"],
    "conv_transpose2d": [
        "conv_transpose2d x out=6 kernel=2 stride=2",
        "conv_transpose2d x out=6 kernel=3 stride=2,1 padding=1 groups=2 dilation=1,2 bias=no",
    ],
    "conv_transpose3d": ["conv_transpose3d v out=4 kernel=2 stride=2 output_padding=1 groups=2"],
    "linear": ["linear x out=3", "linear s out=3 bias=no"],
    "matmul": ["matmul s t", "matmul t2 s"],
    "embedding": ["embedding ids count=7 width=3"],
    "gather": ["gather x rows"],
    "scatter_sum": ["scatter_sum x rows rows=3"],
    "batchnorm": ["batchnorm x", "batchnorm s affine=no eps=0.1"],
    "layernorm": ["layernorm x", "layernorm x dims=3", "layernorm s affine=no"],
    "groupnorm": ["groupnorm x groups=2", "groupnorm s groups=5 affine=no"],
    "rmsnorm": ["rmsnorm x"],
    "maxpool2d": [
        "maxpool2d x kernel=2",
        "maxpool2d x kernel=3 stride=2 padding=1",
        "maxpool2d x kernel=3,2 stride=1,4 padding=1,0",
        "maxpool2d x kernel=2,3 ceil=yes",
        "maxpool2d x kernel=3 stride=2,4 padding=1 ceil=yes",
    ],
    "avgpool2d": ["avgpool2d x kernel=2", "avgpool2d x kernel=3,4 stride=2,3 padding=1,2"],
    "avgpool_global": ["avgpool_global x"],
    "adaptive_avgpool2d": ["adaptive_avgpool2d x size=4,3", "adaptive_avgpool2d x size=1"],
    "upsample_nearest": ["upsample_nearest x scale=2,3"],
    "upsample_bilinear": [
        "upsample_bilinear x scale=2,3",
        "upsample_bilinear x scale=2 corners=yes",
    ],
    "pad": ["pad x widths=1,2", "pad x widths=0,1,2,0 value=0.5", "pad x widths=-1,-1"],
    "reshape": ["reshape x shape=8,-1"],
    "flatten": ["flatten x", "flatten x start=2"],
    "transpose": ["transpose x dims=1,3", "transpose x dims=3,0,1,2"],
    "slice": ["slice x start=2", "slice x dim=1 start=1 stop=-1", "slice x dim=0 stop=1"],
    "concat": ["concat x x2 x", "concat s s dim=-1", "concat x"],
    "expand": ["expand s shape=3,2,5,6"],
    "mean": ["mean x", "mean x dims=1,-1", "mean x dims=0,2 keep=yes"],
    "sum": ["sum x dims=3", "sum x keep=yes"],
    "dropout": ["dropout x rate=0.3"],
    "softmax": ["softmax x", "softmax x dim=1"],
    "log_softmax": ["log_softmax s dim=1"],
    "masked_attention": ["masked_attention s s2 s2 m", "masked_attention s s s m2 scale=0.3"],
    "attention": ["attention s s s", "attention s s2 s2 causal=yes scale=0.3"],
    "add": ["add s w", "add s s"],
    "sub": ["sub s w", "sub w s"],
    "mul": ["mul s w", "mul w s", "mul s s"],
    "leaky_relu": ["leaky_relu x", "leaky_relu x slope=0.3"],
    "affine": ["affine x scale=3 shift=-1", "affine x scale=0.5"],
    "parameter": ["parameter shape=2,3"],
    "cross_entropy": ["cross_entropy s classes", "cross_entropy s others dim=1"],
    "mse": ["mse s s2"],
}
HEAD = """
input x0 2 4 9 10
input s0 2 5 6
input v0 2 4 3 4 3
input ids 3 4 below=7
input rows 2 below=2
input classes 2 5 below=6
input others 2 6 below=5
lift = parameter shape=1
x = mul x0 lift
x2 = affine x scale=2
s = mul s0 lift
s2 = tanh s
v = mul v0 lift
w = parameter shape=5,1 deviation=0.5
t = transpose s dims=1,2
t2 = parameter shape=6,5 deviation=0.5
m = parameter shape=5,5 deviation=0.5
m2 = parameter shape=2,1,5 deviation=0.5
"""


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_agrees_with_autograd(name, profile):
    for line in LINES.get(name, [f"{name} x"]):
        text = HEAD + f"r = {line}\nr2 = square r\nloss = mean r2\n"
        made = unroll(text, profile=profile)
        errors = relative_errors(*gradients(made, torch.float64))
        assert max(errors.values()) <= TOLERANCE, line
        # The gradient must be one, not nothing on both sides.
        assert any(float(g.norm()) > 1e-9 for g in gradients(made)[1].values()), line


UNARY = ["relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh", "square", "softmax", "layernorm"]
UNARY += ["batchnorm", "rmsnorm", "dropout rate=0.2", "leaky_relu", "affine scale=0.5 shift=1"]
UNARY += ["conv2d out=4 kernel=3 padding=1", "conv2d out=4 kernel=3 padding=2 dilation=2 groups=2"]
UNARY += ["linear out=6", "groupnorm groups=2", "maxpool2d kernel=3 stride=1 padding=1"]
UNARY += ["avgpool2d kernel=3 stride=1 padding=1", "transpose dims=0,1,3,2"]
UNARY += ["slice dim=1 start=2", "upsample_nearest scale=2", "adaptive_avgpool2d size=6"]
BINARY = ["add", "sub", "mul", "concat", "matmul", "mul"]


@st.composite
def graphs(draw):
    """Texts of graphs that branch and join, each line of floats of 4 dimensions."""
    lines = ["input x0 2 4 6 6", "x = conv2d x0 out=4 kernel=1"]
    shapes = {"x": (2, 4, 6, 6)}
    for number in range(draw(st.integers(1, 10))):
        names = list(shapes)
        name = f"n{number}"
        if draw(st.integers(0, 2)):
            operation, *rest = draw(st.sampled_from(UNARY)).split(" ")
            line = f"{name} = {operation} {draw(st.sampled_from(names))} {' '.join(rest)}"
        else:
            operation = draw(st.sampled_from(BINARY))
            pair = [draw(st.sampled_from(names)) for _ in range(2)]
            line = f"{name} = {operation} {' '.join(pair)}"
        try:
            graph = read_model("\n".join([*lines, line]))
        except ValueError:
            continue
        lines.append(line)
        shapes[name] = graph.tensors[name].shape
    parts = [f"m{i} = mean {name}" for i, name in enumerate(list(shapes)[-2:])]
    total = "loss = add m0 m1" if len(parts) == 2 else "loss = square m0"
    return "\n".join([*lines, *parts, total]) + "\n"


HELD = ["x", "x2", "s", "s2", "v", "w", "t", "t2", "m"]


@st.composite
def graphs_with(draw, name):
    """Texts of graphs of any operations, in any of their settings; one of them is this."""
    lines, made = HEAD.strip().splitlines(), []
    wanted = draw(st.lists(st.sampled_from(sorted(OPERATIONS)), max_size=3))
    wanted.insert(draw(st.integers(0, len(wanted))), name)
    for number, operation in enumerate(wanted):
        written = draw(st.sampled_from(LINES.get(operation, [f"{operation} x"])))
        words = [
            draw(st.sampled_from(HELD + made)) if word in HELD and draw(st.booleans()) else word
            for word in written.split()[1:]
        ]
        line = f"n{number} = {' '.join([operation, *words])}"
        try:
            read_model("\n".join([*lines, line]))
        except ValueError:  # the table's own arguments fit
            line = f"n{number} = {written}"
        lines.append(line)
        made.append(f"n{number}")
    shapes = read_model("\n".join(lines)).tensors
    for one in made:
        lines.append(f"{one}q = square {one}")
        lines.append(f"{one}m = {'mean' if shapes[one].shape else 'affine'} {one}q")
    for before, one in pairwise(made):
        lines.append(f"{one}t = add {before}{'m' if before == made[0] else 't'} {one}m")
    last = f"{made[-1]}t" if len(made) > 1 else f"{made[0]}m"
    return "\n".join([*lines, f"loss = affine {last}"]) + "\n"


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), st.sampled_from(PROFILES))
def test_random_graphs_of_every_operation_agree_with_autograd(name, data, profile):
    text = data.draw(graphs_with(name))
    assert f" = {name}" in text
    errors = relative_errors(*gradients(unroll(text, profile=profile), torch.float64))
    assert max(errors.values()) <= TOLERANCE


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(graphs(), st.sampled_from(PROFILES), st.sampled_from([None, 1, 0.5, 0.7]))
def test_random_graphs_agree_with_autograd(text, profile, share):
    made = unroll(text, profile=profile)
    if share is not None:  # with parts of the activations made again
        made = unroll(text, profile=profile, budget=int(share * made.planned.schedule.peak))
    errors = relative_errors(*gradients(made, torch.float64))
    assert max(errors.values()) <= TOLERANCE


def test_dropout_drops_its_share_and_depends_on_the_seed():
    made = unroll(
        "input x 100 100\nw = parameter shape=1\na = mul x w\nb = dropout a rate=0.25\n"
        "output b\nloss = mean b\n"
    )
    names = load(made.source)
    ones = torch.ones(100, 100)
    first, again, other = (
        names["forward"]({"w.value": ones[0, :1]}, ones, s)[0] for s in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    kept = (first > 0).double()
    assert abs(float(kept.mean()) - 0.75) < 0.02
    for shift in (1, 2, 100):  # neighbours in a row, in a column, do not go together
        flat = kept.flatten() - 0.75
        assert abs(float((flat[shift:] * flat[:-shift]).mean())) < 0.01


def test_tied_weights_get_both_gradients():
    made = shipped("gpt")
    assert "logits.weight" not in made.graph.parameters
    assert made.source.count('g["tokens.weight"] = ') == 2


def test_check_of_a_model_file(tmp_path: Path):
    report = check(unroll("input x 4 3\nw = linear x out=2\nloss = mean w\n"))
    assert report.fine and not report.cosines

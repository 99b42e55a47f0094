"""The text format: what it says, and what is wrong with it, where."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbits.unroll import models
from fewbits.unroll.faults import ModelError
from fewbits.unroll.generate import unroll
from fewbits.unroll.graph import read_model

HEAD = "input x 2 3 8 8\ninput y 2 below=5\n"

FAULTS = {
    "c = conv2d x out=4 kernal=3": (3, 20, "no attribute 'kernal' (did you mean 'kernel'?)"),
    "c = conv2d x out=4": (3, 5, "needs kernel=ints"),
    "c = convd2 x": (3, 5, "no operation 'convd2' (did you mean 'conv2d'?); there are: adaptive"),
    "c = conv2d z out=4 kernel=3": (3, 12, "nothing above is called 'z'"),
    "c = conv2d x out=4 kernel=9": (3, 27, "kernel is larger than x, 2x3x8x8"),
    "c = conv2d x out=4 kernel=3 groups=2": (3, 36, "groups=2 does not divide 3 and 4"),
    "c = conv2d x out=a kernel=3": (3, 18, "'a' is no number and no let name"),
    "c = conv2d x out=4 kernel=3,3,3": (3, 27, "expected 1 or 2 numbers"),
    "c = conv2d x out=4 kernel=3 bias=maybe": (3, 34, "expected yes or no"),
    "c = conv2d x y out=4 kernel=3": (3, 5, "conv2d takes x, and 2 were given"),
    "c = relu": (3, 5, "relu takes x, and 0 were given"),
    "c = relu y": (3, 10, "relu wants floats, and y has integers"),
    "c = embedding x count=3 width=2": (3, 15, "embedding wants integers, and x has floats"),
    "c = embedding y count=3 width=2": (3, 23, "x goes below 5, and count is 3"),
    "c = add x x x": (3, 5, "add takes x z, and 3 were given"),
    "c = reshape x shape=5,-1": (3, 21, "2x3x8x8 does not fit into 5x-1"),
    "c = slice x start=8": (3, 19, "8 to None of 8"),
    "c = concat x y": (3, 14, "concat wants floats, and y has integers"),
    "x = relu x": (3, 1, "'x' is given twice"),
    "relu x": (3, 1, "expected: NAME = OPERATION"),
    "c = relu kernel=3 x": (3, 19, "arguments come before attributes"),
    "c = linear x out=3 out=4": (3, 20, "'out' is given twice"),
    "c = linear x out=": (3, 14, "expected KEY=VALUE"),
    "c = linear x out=7/2": (3, 18, "7/2 does not come out even"),
    "c = linear x out=2**3": (3, 18, "'2**3' is no whole number"),
    "c = linear x out=3 weight=z.weight": (3, 27, "no parameter 'z.weight' above"),
    "c! = relu x": (3, 1, "'c!' is no name"),
    "loss = relu x": (3, 1, "the loss must be a single number, not 2x3x8x8"),
    "end": (3, 1, "end without a block"),
    "block b(": (3, 1, "a block line reads"),
    "block b(x)\nc = relu x": (3, 7, "block 'b' has no end"),
    "block b(x)\nend": (3, 7, "block 'b' is empty"),
    "block b(x, n)\nc = linear x out=n\nend\nh = b x": (6, 5, "block 'b' needs n=NUMBER"),
    "block b(x)\nc = relu x\nend\nh = b x n=3": (6, 9, "block 'b' has no argument 'n'"),
    "block b(x)\nc = relu x\nend\nh = b x times=0": (6, 15, "'0' must be 1 or more"),
    "block b(x)\nc = relu z\nend\nh = b x": (4, 10, "nothing above is called 'z'"),
    "input z 0": (3, 9, "'0' must be 1 or more"),
    "input z 2 above=3": (3, 11, "an input has no attribute 'above'"),
    "let a 3": (3, 1, "a let line reads"),
    "output z": (3, 8, "nothing above is called 'z'"),
}


@pytest.mark.parametrize("lines", FAULTS)
def test_faults_are_told_with_their_place(lines):
    line, column, message = FAULTS[lines]
    with pytest.raises(ModelError) as caught:
        read_model(HEAD + lines + "\n", file="net.txt")
    text = str(caught.value)
    assert text.startswith(f"net.txt:{line}:{column}: "), text
    assert message in text
    assert "\n" not in text
    source, caret = caught.value.excerpt.split("\n")
    assert source[2:] == (HEAD + lines).split("\n")[line - 1]
    assert caret.index("^") == column + 1


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_text_does_anything_but_read_or_tell(data):
    """Shipped models with characters, words and lines changed: read, or a ModelError."""
    text = models.path_of(data.draw(st.sampled_from(models.names()))).read_text("utf-8")
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        more = st.sampled_from(
            [" ", "=", "\n", ",", "/0", "-", "9", "block ", "end\n", "(", "#", ".", "x"]
        )
        text = text[:at] + data.draw(more) + text[at + data.draw(st.integers(0, 5)) :]
    try:
        graph = read_model(text)
    except ModelError:
        return
    assert graph.nodes


def test_blocks_repeat_and_nest():
    graph = read_model(
        """
        let n = 3
        input x 2 4
        block inner(x, out=n)   # a default
          a = linear x out=out
        end
        block outer(x, k)
          i = inner x
          j = inner i out=k+1
        end
        h = outer x k=2*n times=2
        r = relu h
        """
    )
    assert [node.name for node in graph.nodes] == [
        "h.1.i.a", "h.1.j.a", "h.2.i.a", "h.2.j.a", "r",
    ]  # fmt: skip
    assert graph.tensors["r"].shape == (2, 7)
    assert graph.parameters["h.2.i.a.weight"].shape == (3, 7)
    assert graph.outputs == ("r",) and graph.loss is None


def test_settings_replace_numbers():
    text = "let n = 3\nlet m = 2*n\ninput x n m\nr = relu x\n"
    assert read_model(text).tensors["r"].shape == (3, 6)
    assert read_model(text, settings={"n": 5}).tensors["r"].shape == (5, 10)
    with pytest.raises(ModelError, match=r"no line says 'let k = \.\.\.'"):
        read_model(text, settings={"k": 5})


def test_names_that_python_or_the_step_uses_are_changed():
    text = "input p 2 3\ng = linear p out=3\nlambda = relu g\nd_g = linear lambda out=2\n"
    text += "torch = square d_g\ngelu = gelu torch\npack_bits = relu gelu\nloss = mean pack_bits\n"
    pytest.importorskip("torch")
    from fewbits.unroll.verify import check

    assert check(unroll(text)).fine


def test_shipped_models_have_the_parameters_of_their_papers():
    counts = {
        name: sum(
            math.prod(p.shape)
            for p in read_model(models.path_of(name).read_text("utf-8")).parameters.values()
        )
        for name in models.names()
    }
    # torchvision's counts for the first three; GPT-2 small's 124 million.
    assert counts["resnet18"] == 11_689_512
    assert counts["resnet50"] == 25_557_032
    assert counts["vgg11"] == 132_863_336
    assert round(counts["gpt"] / 1e6) == 124
    assert counts["vit"] == 86_566_120  # 86.6 with torchvision's class token
    assert 31_000_000 < counts["unet"] < 31_100_000

"""Policies: which rule matches, and what a wrong one says."""

import pytest

torch = pytest.importorskip("torch")

from fewbits.lossy import Exact, Quantize  # noqa: E402
from fewbits.lossy.policy import Policy, Rule, SavedTensor  # noqa: E402


def saved(op="linear", module="encoder.0.mlp", shape=(4, 8, 16), dtype=torch.float32, custom=False):
    return SavedTensor(
        op, module, shape, dtype, f"{module}:{op}:0", torch.zeros(shape, dtype=dtype), custom
    )


@pytest.mark.parametrize(
    ("conditions", "matches"),
    [
        ({}, True),
        ({"op": "linear"}, True),
        ({"op": "lin*"}, True),
        ({"op": "conv*"}, False),
        ({"module": "encoder.*"}, True),
        ({"module": "encoder"}, False),
        ({"module": "*.mlp", "op": "gelu"}, False),
        ({"dtype": "float32"}, True),
        ({"dtype": "*float16"}, False),
        ({"shape": (None, 8, 16)}, True),
        ({"shape": (4, 8)}, False),
        ({"shape": (4, 8, 17)}, False),
        ({"ndim": 3}, True),
        ({"ndim": 4}, False),
        ({"min_bytes": 2048}, True),
        ({"min_bytes": 2049}, False),
    ],
    ids=str,
)
def test_conditions(conditions, matches):
    assert Rule(Quantize(4), **conditions).matches(saved()) is matches


def test_first_match_wins():
    policy = Policy((Rule(Quantize(8), op="linear"), Rule(Quantize(2), op="*")), Quantize(4))
    assert policy.choose(saved()) == Quantize(8)
    assert policy.choose(saved(op="gelu")) == Quantize(2)
    assert Policy((), Quantize(4)).choose(saved()) == Quantize(4)


def test_a_codec_that_refuses_does_not_match():
    class Images(Quantize):
        def refusal(self, spec):
            return None if len(spec.shape) == 4 else "no image"

    policy = Policy((Rule(Images(2)),), Quantize(4))
    assert policy.choose(saved()) == Quantize(4)
    assert policy.choose(saved(shape=(2, 3, 4, 5))) == Images(2)


def test_a_custom_operation_wants_its_own_name():
    policy = Policy((Rule(Quantize(8), op="Mine"), Rule(Quantize(2))), Quantize(4))
    assert policy.choose(saved(op="Mine", custom=True)) == Quantize(8)
    assert policy.choose(saved(op="Yours", custom=True)) == Exact()


TEXT = """
default = "int4"
rules = [
  { op = "scaled_dot_product_attention", codec = "int8" },
  { module = "encoder.*", shape = [-1, 8, 16], min_bytes = 1000, codec = "int2" },
]
"""


def test_toml(tmp_path):
    expected = Policy(
        (
            Rule(Quantize(8), op="scaled_dot_product_attention"),
            Rule(Quantize(2), module="encoder.*", shape=(None, 8, 16), min_bytes=1000),
        ),
        Quantize(4),
    )
    (tmp_path / "policy.toml").write_text(TEXT)
    assert Policy.from_toml(TEXT) == expected
    assert Policy.from_toml(tmp_path / "policy.toml") == expected
    assert Policy.from_toml(str(tmp_path / "policy.toml")) == expected
    assert expected.choose(saved()) == Quantize(2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("default = ", "policy: not TOML"),
        ("rules = []", "policy: no default codec"),
        ('default = "int4"\nrule = []', "unknown key 'rule'; known are default, rules"),
        ('default = "int40"', "unknown codec 'int40'"),
        ("default = 4", "policy: default: a codec or its name, not int"),
        ('default = "int4"\nrules = {}', "rules must be a list of tables"),
        ('default = "int4"\nrules = [{ op = "a" }]', "rule 1: no codec"),
        ('default = "int4"\nrules = [{ codec = "int4", layer = "a" }]', "unknown key 'layer'"),
        ('default = "int4"\nrules = [{ codec = "int4", ndim = "4" }]', "ndim must be int"),
        ('default = "int4"\nrules = [{ codec = "x" }]', "unknown codec 'x'"),
    ],
)
def test_wrong_text(text, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Policy.from_toml(text)


def test_a_file_that_is_not_there():
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Policy.from_toml("nowhere.toml")


def test_of():
    policy = Policy((), Quantize(4))
    assert Policy.of("int4") == policy == Policy.of(Quantize(4)) == Policy.of(policy)
    with pytest.raises(TypeError, match="policy: a codec or its name, not NoneType"):
        Policy.of(None)

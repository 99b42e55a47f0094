"""Which codec for which tensor: rules that a person writes and reads.

>>> from fewbits.lossy.policy import Policy
>>> policy = Policy.from_toml('''
... default = "int4"
... rules = [
...   { op = "scaled_dot_product_attention", codec = "int8" },
...   { module = "encoder.*", min_bytes = 1_000_000, codec = "int2" },
... ]
... ''')
"""

import tomllib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self

import torch

from fewbits.lossy.codec import Codec, TensorSpec

RULE_KEYS = ("codec", "op", "module", "dtype", "shape", "ndim", "min_bytes")


@dataclass(frozen=True)
class SavedTensor:
    """A floating-point tensor that is about to be packed, as a policy is asked about it.

    ``key`` is the same in every step in which the model does the same: the module's path, the
    operation, and how many tensors of theirs came before. ``custom`` says that the operation is a
    user's own `torch.autograd.Function`, or was not seen at all: what it saves may have to agree
    to the bit, so only who knows it should have it packed with loss. ``root`` is the outermost
    module that is running, None outside of all.
    """

    op: str
    module: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    key: str
    tensor: torch.Tensor  # to look at, not to keep: keeping it would undo the packing
    custom: bool = False
    root: torch.nn.Module | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor as it is."""
        return int(self.tensor.nbytes)


class Chooser(ABC):
    """What picks codecs for a packed forward: a `Policy`, or one that learns."""

    @abstractmethod
    def choose(self, saved: SavedTensor) -> Codec:
        """The codec for this tensor; `Exact()` leaves it as it is.

        Asked once for each tensor of a forward pass, however many operations save it, and not about
        parameters, small tensors, integers, and tensors of which less than values is needed.
        """

    def rebuilds(self, saved: SavedTensor, sources: tuple[Codec, ...]) -> bool:
        """May this tensor be computed again from others, which have these codecs, and not be held?

        If so, `choose` is not asked about it.
        """
        return False

    def begin(self) -> None:  # noqa: B027
        """A packed forward pass begins."""

    def held(self, nbytes: int) -> None:  # noqa: B027
        """It is over, and this many bytes are held for backward, all tensors together."""

    def traced(self) -> "Chooser":
        """What picks codecs while a compiler traces: tensors have no values then, and the operation
        is ``"compiled"``. It must be hashable; equal ones share compiled code."""
        return self


@dataclass(frozen=True)
class Rule:
    """A codec for the tensors that meet every condition that is given.

    ``op``, ``module`` and ``dtype`` are patterns such as ``"conv*"`` or ``"encoder.*.norm"``;
    ``shape`` has None where any size will do; ``min_bytes`` counts the unpacked tensor.
    """

    codec: Codec
    op: str | None = None
    module: str | None = None
    dtype: str | None = None
    shape: tuple[int | None, ...] | None = None
    ndim: int | None = None
    min_bytes: int = 0

    def matches(self, saved: SavedTensor) -> bool:
        """Does the tensor meet all conditions? A custom operation must be named by its own name."""
        if saved.custom and self.op != saved.op:
            return False
        dtype = str(saved.dtype).removeprefix("torch.")
        named = ((self.op, saved.op), (self.module, saved.module), (self.dtype, dtype))
        return (
            all(pattern is None or fnmatchcase(name, pattern) for pattern, name in named)
            and (self.shape is None or _shape_matches(self.shape, saved.shape))
            and self.ndim in (None, len(saved.shape))
            and saved.nbytes >= self.min_bytes
        )


def _shape_matches(wanted: tuple[int | None, ...], shape: tuple[int, ...]) -> bool:
    return len(wanted) == len(shape) and all(
        want in (None, size) for want, size in zip(wanted, shape, strict=True)
    )


@dataclass(frozen=True)
class Policy(Chooser):
    """Rules in order, the first that matches wins; ``default`` where none does.

    A rule whose codec refuses the tensor does not match: ``dct4+int8`` takes images only, and
    leaves the rest to those that follow.
    """

    rules: tuple[Rule, ...]
    default: Codec

    @classmethod
    def of(cls, what: "str | Codec | Policy") -> "Policy":
        """A policy from a codec's name, a codec, or a policy.

        Raises:
            ValueError: No codec has that name; the message lists those that there are.
            TypeError: Something else.
        """
        if isinstance(what, Policy):
            return what
        return cls((), _codec(what))

    def choose(self, saved: SavedTensor) -> Codec:
        """The codec of the first rule that matches and can hold such a tensor."""
        from fewbits.lossy.lossless import Exact

        spec = TensorSpec(saved.shape, saved.dtype)
        for rule in self.rules:
            if rule.matches(saved) and rule.codec.refusal(spec) is None:
                return rule.codec
        return Exact() if saved.custom else self.default

    def rebuilds(self, saved: SavedTensor, sources: tuple[Codec, ...]) -> bool:
        """Yes, if it would be packed, and no source is packed otherwise, unless without loss."""
        from fewbits.lossy.lossless import Exact

        codec = self.choose(saved)
        return codec != Exact() and all(x.exact or x == codec for x in sources)

    @classmethod
    def from_toml(cls, source: str | Path) -> Self:
        """A policy from a file, or from text: ``default`` and a list of tables ``rules``.

        Raises:
            ValueError: The text is no TOML, or a key or a codec's name is not known.
        """
        text = source if isinstance(source, str) and ("\n" in source or "=" in source) else None
        name = "policy" if text is not None else str(source)
        try:
            table = tomllib.loads(Path(source).read_text("utf-8") if text is None else text)
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{name}: not TOML: {error}") from error
        _known(table, ("default", "rules"), name)
        if "default" not in table:
            raise ValueError(f"{name}: no default codec")
        listed = table.get("rules", [])
        if not isinstance(listed, list) or not all(isinstance(rule, dict) for rule in listed):
            raise ValueError(f"{name}: rules must be a list of tables")
        rules = tuple(_rule(rule, f"{name}: rule {n}") for n, rule in enumerate(listed, 1))
        return cls(rules, _codec(table["default"], f"{name}: default"))


def _codec(what: object, where: str = "policy") -> Codec:
    if isinstance(what, Codec):
        return what
    if not isinstance(what, str):
        raise TypeError(f"{where}: a codec or its name, not {type(what).__name__}")
    from fewbits.lossy.names import codec

    return codec(what)


def _known(table: dict[str, Any], allowed: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in allowed:
            raise ValueError(f"{where}: unknown key {key!r}; known are {', '.join(allowed)}")


def _rule(table: dict[str, Any], where: str) -> Rule:
    _known(table, RULE_KEYS, where)
    if "codec" not in table:
        raise ValueError(f"{where}: no codec")
    conditions = {key: value for key, value in table.items() if key != "codec"}
    for key, value in conditions.items():
        kind = list if key == "shape" else int if key in ("ndim", "min_bytes") else str
        if not isinstance(value, kind):
            raise ValueError(f"{where}: {key} must be {kind.__name__}, not {value!r}")
    if "shape" in conditions:  # TOML has no null: -1 is any size
        conditions["shape"] = tuple(None if size == -1 else size for size in conditions["shape"])
    return Rule(_codec(table["codec"], where), **conditions)

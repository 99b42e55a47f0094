"""How a network is put on IPUs: how many, how cut, how its activations rest."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from fewbits.errors import FewbitsError
from fewbits.machines.ipu.schedules import SCHEDULES, Schedule
from fewbits.machines.traffic import Traffic
from fewbits.machines.workload import Workload

Codec = Literal["dct", "cast"]
CODECS: tuple[Codec, ...] = get_args(Codec)
Parameters = Literal["sgd", "momentum", "adam"]
# Tensors of the size of the weights that an optimizer keeps beside them and their gradients.
COPIES: Mapping[Parameters, int] = {"sgd": 0, "momentum": 1, "adam": 2}

MOST_DEVICES = 64
_BLOCK = 8


@dataclass(frozen=True)
class Setting:
    """One way to run a training step.

    ``devices`` IPUs hold ``devices / pipeline`` replicas, each a pipeline of so many stages. Every
    step takes ``micro_batches`` of ``micro_batch`` samples through each replica. ``ratio``: bytes
    of activations before packing over those after, while they rest (1: not packed); ``ratios``
    replaces it for operations by name. ``codec``: whose time it takes. ``pack_links``: activations
    cross between stages packed, too. ``element_bytes``: 2 (fp16) or 4 (fp32).
    """

    devices: int = 1
    pipeline: int = 1
    micro_batch: int = 1
    micro_batches: int = 1
    schedule: Schedule = "grouped"
    ratio: float = 1.0
    codec: Codec = "dct"
    pack_links: bool = False
    element_bytes: int = 2
    optimizer: Parameters = "momentum"
    ratios: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("devices", "pipeline", "micro_batch", "micro_batches"):
            value = getattr(self, name)
            if value < 1:
                raise FewbitsError(f"{name} {value}: must be at least 1")
        if self.devices > MOST_DEVICES:
            raise FewbitsError(f"devices {self.devices}: at most {MOST_DEVICES}")
        if self.devices % self.pipeline:
            raise FewbitsError(
                f"{self.devices} devices do not divide into pipelines of {self.pipeline}"
            )
        if self.schedule not in SCHEDULES:
            raise FewbitsError(
                f"{self.schedule!r} is no schedule; there are: {', '.join(SCHEDULES)}"
            )
        if self.codec not in CODECS:
            raise FewbitsError(f"{self.codec!r} is no codec; there are: {', '.join(CODECS)}")
        if self.optimizer not in COPIES:
            raise FewbitsError(
                f"{self.optimizer!r} is no optimizer; there are: {', '.join(COPIES)}"
            )
        if self.element_bytes not in (2, 4):
            raise FewbitsError(f"elements of {self.element_bytes} bytes; there are 2 and 4")
        for what, ratio in {"": self.ratio, **self.ratios}.items():
            if not (math.isfinite(ratio) and ratio > 0):
                raise FewbitsError(f"ratio {ratio:g}{what and f' of {what}'}: must be positive")

    @property
    def replicas(self) -> int:
        """Copies of the network."""
        return self.devices // self.pipeline

    @property
    def batch(self) -> int:
        """Samples that a step takes, over all replicas."""
        return self.micro_batch * self.micro_batches * self.replicas

    @property
    def packs(self) -> bool:
        """Does anything rest packed?"""
        return self.ratio != 1 or any(ratio != 1 for ratio in self.ratios.values())


def with_traffic(setting: Setting, traffic: Traffic, net: Workload) -> Setting:
    """The setting with the ratios that activations were measured to have, by operation.

    Operations that were not measured take the measured ratio of the whole.
    """
    shares = {name: share for name, share in traffic.inputs_by_name.items() if name in net.names}
    ratios = {name: 1 / share for name, share in shares.items()}
    return replace(setting, ratio=1 / traffic.activations, ratios=ratios)


def chop_ratio(chop: int) -> float:
    """Elements before over after, where chop x chop of 8 x 8 coefficients are kept."""
    if not 1 <= chop <= _BLOCK:
        raise ValueError(f"chop {chop}: between 1 and {_BLOCK}")
    return (_BLOCK / chop) ** 2


def dct_flop_per_value(chop: float, *, block: int = _BLOCK) -> float:
    """Operations that a DCT with chop takes for each value, one way, as products of matrices.

    A block X of n x n values becomes (M T) X (M T)', where M T has k = n chop / 8 rows (Shah et
    al., HPDC 2024): k n n products and additions, then k k n, for n n values. Decoding takes as
    many. With ``block`` the size of the whole image it is the cost of block-diagonal operands that
    are multiplied as if they were dense.
    """
    rows = block * chop / _BLOCK
    return 2 * (rows + rows * rows / block)


def flop_per_value(codec: Codec, ratio: float) -> float:
    """Operations of one way through a codec for each value that it reads or makes.

    A DCT that reaches ``ratio`` by the coefficients it drops, with as many as fit; a cast is one
    product, as in quantizing with a scale. No packing, no operations.
    """
    if ratio == 1:
        return 0.0
    if codec == "cast":
        return 2.0
    chop = min(_BLOCK, max(1, math.floor(_BLOCK / math.sqrt(ratio) + 1e-9)))
    return dct_flop_per_value(chop)

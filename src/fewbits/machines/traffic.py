"""How many bytes cross after packing, for each that would without: by class, and by operation.

>>> from fewbits.machines import networks
>>> net = networks.load("alexnet")
>>> traffic = Traffic("apack", weights=0.6, activations=0.48)
>>> float(traffic.weights_of(net)[0]), float(traffic.inputs_of(net)[0])
(0.6, 0.48)
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fewbits.errors import FewbitsError
from fewbits.machines.constants import Constant
from fewbits.machines.workload import Workload

Array = NDArray[np.float64]
Origin = Literal["none", "paper", "measured", "given"]


@dataclass(frozen=True)
class Traffic:
    """Packed bytes over plain ones; above 1 where packing expands.

    ``weights`` and ``activations`` hold for operations that ``weights_by_name`` and
    ``inputs_by_name`` do not have. In a sweep they may be arrays of shape (configurations, 1).
    ``origin`` says where they are from.
    """

    codec: str
    weights: float = 1.0
    activations: float = 1.0
    weights_by_name: Mapping[str, float] = field(default_factory=dict)
    inputs_by_name: Mapping[str, float] = field(default_factory=dict)
    origin: Origin = "given"
    note: str = ""

    def __post_init__(self) -> None:
        for what, value in (
            ("weights", self.weights),
            ("activations", self.activations),
            *self.weights_by_name.items(),
            *self.inputs_by_name.items(),
        ):
            if not np.all(np.isfinite(value)) or not np.all(np.asarray(value) > 0):
                raise FewbitsError(f"traffic of {what}: {value} is not above 0")

    def weights_of(self, net: Workload) -> Array:
        """For each operation the share of its weights' bytes that cross."""
        return _by_name(net, self.weights_by_name, self.weights)

    def inputs_of(self, net: Workload) -> Array:
        """The same for what it reads."""
        return _by_name(net, self.inputs_by_name, self.activations)

    def outputs_of(self, net: Workload) -> Array:
        """The same for what it writes, which packs as what the next operation reads."""
        inputs = self.inputs_of(net)
        last = np.broadcast_to(np.asarray(self.activations, np.float64), inputs[..., :1].shape)
        return np.concatenate([inputs[..., 1:], last], axis=-1)


NONE = Traffic("none", origin="none")


def _by_name(net: Workload, known: Mapping[str, float], other: Any) -> Array:
    if not known:
        return np.asarray(other * np.ones(len(net)))
    # Backward passes and repeated runs of a module pack what the first run of it had.
    keys = (
        name.split(":")[0].removesuffix(".d_input").removesuffix(".d_weight") for name in net.names
    )
    columns = np.broadcast_arrays(*(known.get(key, other) for key in keys))
    return np.reshape(np.stack(columns, axis=-1), (*np.shape(other)[:-1], len(net)))


#: What machines take as averages where nothing is measured.
AVERAGES = (
    Constant(
        "weight_traffic", 0.60, "", "APack, abstract: weights to 60 % on average", "paper", low=1e-3
    ),
    Constant(
        "activation_traffic", 0.48, "", "APack, abstract: activations to 48 % on average", "paper",
        low=1e-3,
    ),
)  # fmt: skip


def of_training(report: Mapping[str, Any] | Any, codec: str = "training") -> Traffic:
    """Activations as a report of ``fewbits.training`` found them; weights as they are.

    ``report``: a ``Report``, or what its ``to_dict`` gave. Tensors that a module saved share the
    module's ratio; modules it does not know take that of the whole. ``FewbitsError`` if it is none.
    """
    try:
        found = report if isinstance(report, Mapping) else report.to_dict()
        rows = [(str(r["module"]), int(r["before"]), int(r["after"])) for r in found["tensors"]]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise FewbitsError("this is no report of fewbits.training") from None
    before: Counter[str] = Counter()
    after: Counter[str] = Counter()
    for module, plain, packed in rows:
        before[module] += plain
        after[module] += packed
    whole = after.total() / before.total() if before.total() else 1.0
    shares = {name: max(after[name] / before[name], 1e-9) for name in before if before[name]}
    return Traffic(codec, 1.0, max(whole, 1e-9), {}, shares, origin="measured")

"""What a codec's name on the command line stands for: a context for each forward pass."""

from contextlib import AbstractContextManager, nullcontext
from statistics import median
from typing import Any

from fewbits.lossy.names import codec
from fewbits.training import Adaptive, Report, pack_activations

#: What is measured unless others are asked for.
CODECS = (
    "int8", "int4", "int3", "int2", "int2-stochastic", "bounded:0.3:std", "bounded:0.5:std",
    "bounded:0.7:std:dither", "dct4+int8", "auto", "auto:0.7", "auto:0.5",
)  # fmt: skip
#: Fidelity is measured in every so many steps: it costs as much as decoding.
PROBE = 25


class Way:
    """A way to train: gives the context of each step, and remembers what the steps saved."""

    def __init__(self, policy: Any = None, *, rebuild: bool = True) -> None:
        self.policy, self.steps = policy, 0
        self.ratios: list[float] = []
        self.scores: list[tuple[int, float]] = []
        self._packers = policy and [
            pack_activations(policy, measure=m, rebuild=rebuild) for m in (False, True)
        ]

    @property
    def warm(self) -> int:
        """Steps until all is as it will be."""
        return self.policy.warmup + 1 if isinstance(self.policy, Adaptive) else 1

    def context(self) -> AbstractContextManager[Any]:
        """The context of the next step."""
        return nullcontext() if self.policy is None else self._packer()

    def take(self) -> None:
        """Count what the step has saved; every 25th, its fidelity too."""
        if self.policy is None:
            return
        report: Report = self._packer().report()
        self.ratios.append(report.ratio)
        # What the policy was asked about: masks and indices have no fidelity to speak of, and
        # logarithms are packed as what they are logarithms of.
        asked = [
            row
            for row in report.rows
            if row.key and row.before and row.fidelity is not None
            if not row.codec_name.startswith("exp")
        ]
        if asked:
            whole = sum(row.before for row in asked)
            score = sum(row.before * row.fidelity for row in asked) / whole
            self.scores.append((self.steps, score))
        self.steps += 1

    def _packer(self) -> Any:
        return self._packers[self.steps % PROBE == PROBE - 1]

    def backward(self, loss: Any, model: Any) -> None:
        """The backward pass, with a check of the gradients if the policy makes one."""
        if isinstance(self.policy, Adaptive):
            self.policy.backward(loss, model)
        else:
            loss.backward()

    def summary(self) -> dict[str, Any]:
        """The middle ratio and the mean score of the steps, the score as it went, the log."""
        found: dict[str, Any] = {"ratio": median(self.ratios) if self.ratios else 1.0}
        if self.scores:
            found["score"] = sum(score for _, score in self.scores) / len(self.scores)
            found["scores"] = self.scores
        if isinstance(self.policy, Adaptive):
            found["log"] = str(self.policy).splitlines()
        return found


def way(name: str) -> Way:
    """The way of a codec's name, of ``exact``, ``auto``, ``auto:0.7`` (target), ``auto:5MB``.

    ``held:int4`` holds all that is saved, and computes nothing again.

    Raises:
        ValueError: There is no such codec.
    """
    if name in ("exact", "checkpoint"):
        return Way()
    if name == "auto":
        return Way(Adaptive())
    if name.startswith("auto:"):
        what = name.removeprefix("auto:")
        budget = what[-1:].isalpha()
        return Way(Adaptive(budget=what) if budget else Adaptive(float(what)))
    if name.startswith("held:"):
        return Way(codec(name.removeprefix("held:")), rebuild=False)
    return Way(codec(name))

"""The policy ``"auto"``: as small as can be while activations stay as close as wanted.

    from fewbits.training import Adaptive, pack_activations
    policy = Adaptive(target=0.85)
    for batch in batches:
        with pack_activations(policy):
            loss = model(batch)
        policy.backward(loss)  # loss.backward(), and now and then a check of the gradients

**Life of a run.** The first steps are left as they are (``warmup``). Then every candidate codec is
tried on a sample of each tensor, and `budget.allocate` gives each tensor the one with which the
mean fidelity, weighted by bytes, meets the target in the fewest bytes. That is done again after 10,
20, 40, ... steps, at last every ``every`` steps. What is in use stays unless it misses the target
or a new choice saves more than 5 % (hysteresis): codecs that change all the time help nobody.

**Gradients.** `Adaptive.backward` can compare, every ``check_every`` steps, the gradients with
those from exact activations (`gradients`). Under a mean cosine of 0.7 training goes wrong, and the
target moves halfway to 1. Such a step holds both kinds of activations; none is made before
`backward` was called once, so who writes ``loss.backward()`` pays nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from fewbits.lossy.bounded import Bounded
from fewbits.lossy.codec import Codec, TensorSpec
from fewbits.lossy.lossless import Exact
from fewbits.lossy.names import codec as codec_of
from fewbits.lossy.names import name_of
from fewbits.lossy.policy import Chooser, Policy, SavedTensor
from fewbits.lossy.quantize import Quantize
from fewbits.quantities import parse_bytes
from fewbits.training.budget import Curve, Option, allocate, score
from fewbits.training.gradients import ALARM, Switch, Witness, backward_twice
from fewbits.training.trades import measure

#: What is tried unless others are given. Where little is kept, rounding is at random: an error that
#: leans the same way in every step turns gradients more than fidelity tells.
CANDIDATES: tuple[Codec, ...] = (
    *(Quantize(bits) for bits in (8, 6, 5, 4, 3)),
    Quantize(2, rounding="stochastic"),
    *(Bounded(bound, "std") for bound in (0.1, 0.2, 0.3, 0.4)),
    *(Bounded(bound, "std", dither=True) for bound in (0.7, 1.0)),
)
#: A choice stays while a new one would save less than this part of its bytes.
HYSTERESIS = 0.05
#: No tensor's fidelity may lie further below the target than this.
DEPTH = 0.25
FIRST_GAP, CHECK_EVERY = 10, 200
#: The part of a budget that is aimed for: sizes of bounded codecs follow the values of each step.
AIM = 0.98
#: Of int4 in groups of 256, for values from a normal distribution.
INT4_FIDELITY = 0.88


@dataclass(frozen=True)
class Event:
    """Something that happened in a run, and in which step."""

    step: int
    what: str

    def __str__(self) -> str:
        return f"step {self.step}: {self.what}"


@dataclass(frozen=True)
class Tuning:
    """What was found when codecs were chosen: the score and the ratio of the choice, measured."""

    step: int
    score: float
    ratio: float


class Adaptive(Chooser):
    """Chooses codecs by what they do to this model's activations, and keeps choosing.

    Args:
        target: Mean fidelity to keep, weighted by bytes, above 0 and at most 1.
        budget: Bytes that packed activations may take (``"2GB"``), in place of a target: then the
            score is as high as fits. What does not fit is said in ``log``.
        every: Steps between choices, once the run has settled.
        warmup: Steps at the start that are left as they are; none with a budget, which holds from
            the first step on.
        check_every: Steps between checks of the gradients in `backward`, 0 for none; 200 unless
            given, none with a budget, because a check does not keep to it.
        candidates: Codecs or their names, in any order.
        floor: The least fidelity of any one tensor; 0.25 below the target unless given. Should no
            candidate reach it, the tensor is left as it is.

    One object serves one model, for as long as it trains; a step is one packed forward pass.

    Raises:
        ValueError: A number out of its range, or no codec of that name.
    """

    def __init__(
        self,
        target: float | None = None,
        *,
        budget: str | int | None = None,
        every: int = 100,
        warmup: int = 5,
        check_every: int | None = None,
        candidates: Sequence[Codec | str] = CANDIDATES,
        floor: float | None = None,
    ) -> None:
        if budget is not None and target is not None:
            raise ValueError("either a target or a budget, not both")
        self.target = 0.85 if target is None else float(target)
        if not 0 < self.target <= 1:
            raise ValueError(f"target must be above 0 and at most 1, not {target!r}")
        if every < 1:
            raise ValueError(f"every must be 1 or more, not {every!r}")
        for name, number in (("warmup", warmup), ("check_every", check_every or 0)):
            if number < 0:
                raise ValueError(f"{name} must be 0 or more, not {number!r}")
        if floor is not None and not 0 <= floor <= self.target:
            raise ValueError(f"floor must be from 0 to the target, not {floor!r}")
        if not candidates:
            raise ValueError("no candidates")
        self.budget = None if budget is None else parse_bytes(budget)
        self.every = every
        usual = CHECK_EVERY if budget is None else 0
        self.check_every = usual if check_every is None else check_every
        self.warmup = warmup if budget is None else 0
        self.candidates = tuple(map(_codec, candidates))
        self.log: list[Event] = []
        self.history: list[Tuning] = []
        self._floor = floor
        self._step, self._tune_at, self._gap = -1, max(self.warmup - 1, 0), FIRST_GAP
        self._check_at: int | None = None
        self._curves: dict[str, Curve] = {}
        self._chosen: dict[str, Option] = {}
        self._asked: set[str] = set()
        self._others, self._over = 0, False
        self._switch = Switch()

    @property
    def step(self) -> int:
        """The present step, from 0; -1 before the first."""
        return self._step

    @property
    def floor(self) -> float:
        """The least fidelity of any one tensor; with a budget, none unless given."""
        if self._floor is not None:
            return self._floor
        return 0.0 if self.budget is not None else max(self.target - DEPTH, 0.0)

    def begin(self) -> None:
        """A forward pass starts. Steps are counted here, so that a policy can be taken along."""
        self._step += 1
        self._asked.clear()

    def choose(self, saved: SavedTensor) -> Codec:
        """The codec for a tensor that the forward pass saves."""
        if saved.custom or not saved.nbytes:
            return Exact()
        self._asked.add(saved.key)
        tuning = self._step == self._tune_at
        if tuning or (saved.key not in self._curves and self._step >= self.warmup):
            self._curves[saved.key] = measure(saved.tensor, self.candidates, self.floor)
        if self._step < self.warmup:
            return Exact()
        option = self._chosen.get(saved.key) or self._alone(saved.key)
        codec = option.codec
        if codec.refusal(TensorSpec(saved.shape, saved.dtype)) is not None:  # an odd last batch
            return Exact()
        return Witness(codec, self._switch) if self._comparing and not codec.exact else codec

    def rebuilds(self, saved: SavedTensor, sources: tuple[Codec, ...]) -> bool:
        """Always, so that what is asked about is the same in every step."""
        return not saved.custom

    def traced(self) -> Chooser:
        """One codec for all, as there is nothing to measure: int4, or int8 for a high target."""
        return Policy((), Quantize(4 if self.target <= INT4_FIDELITY else 8))

    def held(self, nbytes: int) -> None:
        """The forward pass is over: choose for the steps to come, if this one was measured."""
        if self._step >= self.warmup and not self._comparing:
            ours = sum((self._chosen.get(key) or self._alone(key)).nbytes for key in self._asked)
            self._others = max(nbytes - int(ours), 0)
        over = self.budget is not None and nbytes > self.budget and not self._comparing
        if self._step == self._tune_at or over:
            self._allocate()
        if self._step == self._tune_at:
            self._tune_at += self._gap
            self._gap = min(2 * self._gap, self.every)

    @property
    def _comparing(self) -> bool:
        return self._step == self._check_at

    def backward(self, loss: torch.Tensor, model: torch.nn.Module | None = None) -> None:
        """``loss.backward()``; when a check is due, compares gradients with exact ones first.

        ``model`` gives the parameters names in the log. A check takes one backward pass more, and
        the memory of exact activations beside the packed ones. On each process of several,
        gradients are its own, from before they are averaged.
        """
        if not self._comparing:
            loss.backward()
        else:
            found = list(backward_twice(loss, self._switch))
            names = {} if model is None else {id(p): n for n, p in model.named_parameters()}
            self._judge([(names.get(id(p), _described(p)), c) for p, c in found])
        if self.check_every and (self._check_at or 0) <= self._step:
            gap = 1 if self._check_at is None else self.check_every
            self._check_at = max(self._step + gap, self.warmup + 1)

    def _alone(self, key: str) -> Option:
        """For a tensor that came after the last choice."""
        curve = self._curves[key]
        return curve.smallest(self.target) if self.budget is None else curve.options[-1]

    def _allocate(self) -> None:
        curves = {key: self._curves[key] for key in self._asked}
        if not curves:
            return
        room = None if self.budget is None else AIM * self.budget - self._others
        if room is None:
            new = allocate(curves, target=self.target)
        else:
            new = allocate(curves, budget=room)
            self._say_if_over(sum(option.nbytes for option in new.values()))
        old = self._measured_again(curves)
        if old and self._keeps(curves, old, new):
            new = old
        self._chosen |= new
        held = sum(option.nbytes for option in new.values())
        whole = sum(curve.nbytes for curve in curves.values())
        self.history.append(Tuning(self._step, score(curves, new), whole / max(held, 1)))

    def _measured_again(self, curves: dict[str, Curve]) -> dict[str, Option] | None:
        """The present choice as it measures now; None if a part of it is no option any more."""
        found = {}
        for key, curve in curves.items():
            codec = self._chosen[key].codec if key in self._chosen else None
            option = next((o for o in curve.options if o.codec == codec), None)
            if option is None:
                return None
            found[key] = option
        return found

    def _keeps(
        self, curves: dict[str, Curve], old: dict[str, Option], new: dict[str, Option]
    ) -> bool:
        """Is the present choice still good, and the new one hardly better?"""
        before, after = (sum(option.nbytes for option in all_.values()) for all_ in (old, new))
        if self.budget is None:
            good = score(curves, old) >= self.target
            return good and before <= after * (1 + HYSTERESIS)
        good = before <= AIM * self.budget - self._others
        return good and score(curves, old) >= score(curves, new) - HYSTERESIS / 5

    def _say_if_over(self, held: float) -> None:
        assert self.budget is not None
        over = held + self._others > self.budget
        if over and not self._over:
            self._note(
                f"the budget of {self.budget:,} bytes cannot be met: the smallest codecs take "
                f"{int(held):,}, and what must stay exact {self._others:,}"
            )
        self._over = over

    def _judge(self, cosines: list[tuple[str, float]]) -> None:
        if not cosines:
            return
        mean = sum(found for _, found in cosines) / len(cosines)
        name, worst = min(cosines, key=lambda pair: pair[1])
        text = f"gradient cosine {mean:.3f}, worst {worst:.3f} ({name})"
        if mean >= ALARM:
            self._note(text)
        elif self.budget is not None:
            self._note(f"{text}: below {ALARM}, but the budget leaves no room; raise it")
        else:
            self.target = (1 + self.target) / 2
            self._note(f"{text}: below {ALARM}, so the target is now {self.target:.3f}")
            self._chosen.clear()  # until the next choice each tensor meets the new target alone
            self._tune_at, self._gap = self._step + 1, FIRST_GAP

    def _note(self, what: str) -> None:
        self.log.append(Event(self._step, what))

    def __str__(self) -> str:
        """What is in use, and what happened."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        aim = f"target {self.target:.3f}" if self.budget is None else f"budget {self.budget:,} B"
        yield f"auto, {aim}, step {self._step}"
        if self.history:
            last = self.history[-1]
            yield f"score {last.score:.3f} at ratio {last.ratio:.2f}, chosen in step {last.step}"
            counts: dict[str, int] = {}
            for option in self._chosen.values():
                name = name_of(option.codec)
                counts[name] = counts.get(name, 0) + 1
            yield ", ".join(f"{count} x {name}" for name, count in sorted(counts.items()))
        yield from map(str, self.log)


def _codec(candidate: Codec | str) -> Codec:
    if isinstance(candidate, str):
        return codec_of(candidate)
    if not isinstance(candidate, Codec):
        raise TypeError(f"candidates: a codec or its name, not {type(candidate).__name__}")
    return candidate


def _described(parameter: torch.Tensor) -> str:
    return f"a parameter of shape {tuple(parameter.shape)}"

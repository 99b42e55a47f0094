"""To pack activations or not, and how: every way to run a batch, and the fastest with and without.

>>> from fewbits.machines import networks
>>> plan = make_plan(networks.load("resnet18"), devices=1, batch=8, ratios=(4.0,))
>>> plan.pack
False
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from fewbits.errors import FewbitsError
from fewbits.machines.constants import Constants
from fewbits.machines.ipu.memory import CLASSES
from fewbits.machines.ipu.model import Run, simulate
from fewbits.machines.ipu.schedules import SCHEDULES, Schedule
from fewbits.machines.ipu.setting import Setting
from fewbits.machines.workload import Workload

# Less is within what the constants are worth.
_WORTH = 1.01


@dataclass(frozen=True)
class Plan:
    """The fastest runs of a batch, with and without packing, and a sentence on which to take."""

    plain: Run | None
    packed: Run | None
    tried: tuple[Run, ...]
    reason: str

    @property
    def gain(self) -> float | None:
        """Seconds a step without packing over those with; none if only one of them fits."""
        if self.plain is None or self.packed is None:
            return None
        return self.plain.step_s / self.packed.step_s

    @property
    def pack(self) -> bool:
        """The answer."""
        return self.plain is None or (self.gain or 0.0) >= _WORTH

    @property
    def best(self) -> Run:
        """The run to take."""
        best = self.packed if self.pack else self.plain
        assert best is not None
        return best


def make_plan(
    workload: Workload,
    *,
    devices: int,
    batch: int,
    ratios: Sequence[float] = (4.0,),
    setting: Setting | None = None,
    pipelines: Sequence[int] | None = None,
    schedules: Sequence[Schedule] = SCHEDULES,
    cut: bool = True,
    constants: Constants | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Plan:
    """Try every pipeline depth, cut into micro-batches and schedule for ``batch`` samples a step.

    ``ratios``: what packing may reach, by accuracy's leave. ``setting``: for what is not tried
    (element size, optimizer, codec, ratios by operation). ``cut``: whether a batch may be cut into
    micro-batches where there is no pipeline; not if statistics over the batch matter.
    ``FewbitsError`` if nothing fits.
    """
    base = setting or Setting()
    if not ratios or any(ratio <= 0 or ratio == 1 for ratio in ratios):
        raise FewbitsError("ratios to try must be positive and other than 1, which packs nothing")
    settings = list(_settings(workload, base, devices, batch, pipelines, schedules, cut))
    if not settings:
        raise FewbitsError(
            f"{devices} devices cannot share a batch of {batch} evenly, in pipelines of any depth"
        )
    tried: list[Run] = []
    fault: FewbitsError | None = None
    for one in settings:
        for ratio in dict.fromkeys((1.0, *ratios)):
            try:
                ratios_by_name = base.ratios if ratio != 1 else {}
                way = replace(one, ratio=ratio, ratios=ratios_by_name)
                tried.append(simulate(workload, way, constants))
            except FewbitsError as error:
                fault = fault or error
            advance(1)
    if not tried:
        assert fault is not None
        raise FewbitsError(f"no way fits; for one, {fault}")
    plain = min((r for r in tried if not r.setting.packs), key=_order, default=None)
    packed = min((r for r in tried if r.setting.packs), key=_order, default=None)
    return Plan(plain, packed, tuple(sorted(tried, key=_order)), _reason(plain, packed))


def count(
    workload: Workload, devices: int, batch: int, ratios: Sequence[float], *, cut: bool = True
) -> int:
    """How many runs ``make_plan`` tries, for a progress bar."""
    settings = _settings(workload, Setting(), devices, batch, None, SCHEDULES, cut)
    return sum(1 for _ in settings) * len(dict.fromkeys((1.0, *ratios)))


def _order(run: Run) -> tuple[float, int, int]:
    """Fastest first; of equals the one with fewer stages, fewer in flight."""
    return run.step_s, run.setting.pipeline, int(run.rounds.stash.max())


def _settings(
    workload: Workload,
    base: Setting,
    devices: int,
    batch: int,
    pipelines: Sequence[int] | None,
    schedules: Sequence[Schedule],
    cut: bool,
) -> Iterator[Setting]:
    for pipeline in pipelines or _divisors(devices):
        replicas = devices // pipeline
        if pipeline > len(workload) or batch % replicas:
            continue
        each = batch // replicas
        for micro_batches in _divisors(each) if cut or pipeline > 1 else (1,):
            for schedule in schedules if pipeline > 1 and micro_batches > 1 else schedules[:1]:
                yield replace(
                    base, devices=devices, pipeline=pipeline, schedule=schedule, ratio=1.0,
                    micro_batch=each // micro_batches, micro_batches=micro_batches, ratios={},
                )  # fmt: skip


def _divisors(number: int) -> list[int]:
    if number < 1:
        raise FewbitsError(f"{number}: must be at least 1")
    return [d for d in range(1, number + 1) if number % d == 0]


def _reason(plain: Run | None, packed: Run | None) -> str:
    if packed is None:
        return "do not pack: it does not fit packed, where codecs need room for what they unpack"
    if plain is None:
        return "pack: nothing fits otherwise"
    gain = plain.step_s / packed.step_s
    if gain >= _WORTH:
        before, after = _streamed(plain), _streamed(packed)
        if after == 0 < before:
            why = "keeps all on the chip"
        elif after < 0.99 * before:
            why = "moves fewer bytes to streaming memory"
        else:
            why = f"makes room for {_way(packed)} instead of {_way(plain)}"
        return f"pack, {gain:.2f} times faster: it {why}"
    if not plain.spills:
        return (
            f"do not pack: nothing spills without it, and packing makes a step {1 / gain:.2f} "
            "times as long"
        )
    return f"do not pack: it would not stop the spilling; a step takes {1 / gain:.2f} times as long"


def _streamed(run: Run) -> float:
    return sum(float(run.result.traffic_bytes[name].sum()) for name in CLASSES)


def _way(run: Run) -> str:
    way = run.setting
    return f"{way.schedule}, {way.pipeline} deep, {way.micro_batches} x {way.micro_batch} samples"

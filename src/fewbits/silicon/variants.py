"""The units that are synthesized and compared, and how each is measured."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fewbits.silicon import activity
from fewbits.silicon.costs import UnitCost
from fewbits.silicon.decoder import Decoder
from fewbits.silicon.encoder import Encoder
from fewbits.silicon.engine import DecoderEngine, EncoderEngine
from fewbits.silicon.lanes import DecoderLane, EncoderLane
from fewbits.silicon.rans import RansDecoder, RansSettings
from fewbits.silicon.settings import Settings
from fewbits.silicon.shapeshifter import ShapeShifterDecoder, ShapeShifterEncoder
from fewbits.silicon.synthesis import RELAXED_S, Synthesis, synthesize
from fewbits.silicon.technology import TECHNOLOGY

Measure = Callable[[Any], activity.Activity]


@dataclass(frozen=True)
class Variant:
    """A unit to synthesize. ``clock_s``: what its gates are sized for; the default: least area."""

    name: str
    unit: Callable[[], Any]
    measure: Measure | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    table_bits: int = 0
    clock_s: float = RELAXED_S
    # Units of this kind that the circuit holds.
    units: int = 1


def _encoder(name: str, settings: Settings, clock_s: float = RELAXED_S) -> Variant:
    return Variant(
        name,
        lambda: Encoder(settings),
        lambda netlist: activity.encoder(netlist, settings),
        asdict(settings),
        settings.table_bits,
        clock_s,
    )


def _decoder(name: str, settings: Settings, clock_s: float = RELAXED_S) -> Variant:
    return Variant(
        name,
        lambda: Decoder(settings),
        lambda netlist: activity.decoder(netlist, settings),
        asdict(settings),
        settings.table_bits,
        clock_s,
    )


def _rans(name: str, settings: RansSettings) -> Variant:
    return Variant(
        name,
        lambda: RansDecoder(settings),
        lambda netlist: activity.rans_decoder(netlist, settings),
        asdict(settings),
        settings.table_bits,
    )


def _lane(name: str, kind: Any, measure: Any, settings: Settings) -> Variant:
    return Variant(
        name,
        lambda: kind(settings),
        lambda netlist: measure(netlist, settings),
        asdict(settings),
        settings.table_bits,
    )


def _engine(name: str, kind: Any, settings: Settings, lanes: int) -> Variant:
    more = {**asdict(settings), "lanes": lanes}
    return Variant(
        name, lambda: kind(settings, lanes), None, more, settings.table_bits * lanes, units=lanes
    )


OURS, DIVIDER = Settings(), Settings(lookup="divider")
VARIANTS = (
    _encoder("paper's encoder", Settings.paper()),
    _decoder("paper's decoder, parallel", Settings.paper("parallel")),
    _decoder("paper's decoder, binary", Settings.paper("binary")),
    _decoder("paper's decoder, divider", Settings.paper("divider")),
    _encoder("encoder", OURS),
    _decoder("decoder, parallel", Settings(lookup="parallel")),
    _decoder("decoder, binary", OURS),
    _decoder("decoder, divider", DIVIDER),
    _encoder("encoder, fast", OURS, 1.5e-9),
    _decoder("decoder, parallel, fast", Settings(lookup="parallel"), 1.5e-9),
    _encoder("encoder, 4 stages", Settings(stages=4), 1e-9),
    _decoder("decoder, parallel, 4 stages", Settings(lookup="parallel", stages=4), 1e-9),
    _decoder("decoder, binary, 8 stages", Settings(stages=8), 1e-9),
    _decoder("decoder, divider, 15 stages", Settings(lookup="divider", stages=15), 1e-9),
    _encoder("encoder, 4 bits", Settings(width=4)),
    _decoder("decoder, divider, 4 bits", Settings(width=4, lookup="divider")),
    _encoder("encoder, 16 bits", Settings(width=16)),
    _decoder("decoder, divider, 16 bits", Settings(width=16, lookup="divider")),
    _rans("rANS decoder, ranges", RansSettings()),
    _rans("rANS decoder, alias", RansSettings(codes="alias")),
    _lane("encoder lane", EncoderLane, activity.encoder_lane, OURS),
    _lane("decoder lane, binary", DecoderLane, activity.decoder_lane, OURS),
    _lane("decoder lane, divider", DecoderLane, activity.decoder_lane, DIVIDER),
    _engine("encoder engine, 4 lanes", EncoderEngine, OURS, 4),
    _engine("decoder engine, 4 lanes", DecoderEngine, DIVIDER, 4),
    Variant(
        "ShapeShifter encoder",
        ShapeShifterEncoder,
        lambda netlist: activity.shapeshifter_encoder(netlist, 8),
    ),
    Variant(
        "ShapeShifter decoder",
        ShapeShifterDecoder,
        lambda netlist: activity.shapeshifter_decoder(netlist, 8),
    ),
)


def measure(variant: Variant, liberty: Path | None = None) -> UnitCost:
    """Synthesize and measure a variant; with a library of the user's, there is no energy."""
    made = synthesize(variant.unit(), liberty=liberty, clock_s=variant.clock_s)
    work = variant.measure(made.netlist) if variant.measure and liberty is None else None
    return cost(variant, made, work)


def cost(variant: Variant, made: Synthesis, work: activity.Activity | None) -> UnitCost:
    """What the table says of a variant."""
    return UnitCost(
        name=variant.name,
        settings=dict(variant.settings),
        units=variant.units,
        area_ge=round(made.area_ge, 1),
        area_m2=made.placed_m2,
        registers=made.registers,
        table_bits=variant.table_bits,
        critical_path_s=made.critical_path_s,
        energy_j=work.energy_j if work else None,
        values_per_cycle=work.values_per_cycle if work else None,
        leakage_w=made.area_ge * TECHNOLOGY["leakage_w_per_ge"].value,
    )

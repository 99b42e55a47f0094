"""APack's Figures 5 to 8: traffic, energy of the memory, speedup and energy efficiency."""

from fewbits.machines import networks
from fewbits.machines.constants import Constants
from fewbits.machines.parts.dram import memory
from fewbits.machines.parts.engine import engines
from fewbits.machines.tensorcore import constants
from fewbits.studies import Advance, Bars, Claim, Lines, Study, Table
from fewbits.studies.apack import codecs
from fewbits.studies.apack.settings import (
    CODECS,
    REFERENCE,
    Outcome,
    Setting,
    outcome,
    settings,
    used_constants,
)
from fewbits.studies.apack.shares import TENSORS, Codec, Tensors, measured, share

_CLOCKS_GHZ = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
STEPS = len(settings()) + len(_CLOCKS_GHZ)
PAPER = {
    ("speedup", "apack"): 1.44,
    ("efficiency", "apack"): 1.37,
    ("speedup", "shapeshifter"): 1.30,
    ("efficiency", "shapeshifter"): 1.23,
}
_TITLES = {"apack": "APack", "shapeshifter": "ShapeShifter"}


def study(advance: Advance) -> Study:
    """Everything the page holds."""
    outcomes = []
    for setting in settings():
        outcomes.append(outcome(setting))
        advance(1)
    clocks = []
    for clock in _CLOCKS_GHZ:
        values = {"engine_clock_hz": clock * 1e9, "engine_power_at_hz": clock * 1e9}
        clocks.append(outcome(Setting(f"{clock:g} GHz", values)))
        advance(1)
    reference = outcomes[0]
    return Study(
        name="apack",
        title="APack on a tensor-core accelerator, remade",
        source="A. Delmas Lascorz, M. Mahmoud, A. Moshovos, APack: Off-Chip, Lossless Data "
        "Compression for Efficient Deep Learning Inference, arXiv:2201.08830, section VII.",
        text=_text(outcomes, clocks),
        claims=_claims(reference),
        parts=(
            _sensitivity(outcomes),
            _engine_lines(clocks),
            _network_bars(reference, "speedup", "Speedup by network (the paper's Figure 7)"),
            _network_bars(
                reference, "efficiency", "Energy efficiency by network (the paper's Figure 8)"
            ),
            _traffic_bars("weights"),
            _traffic_bars("activations"),
            _origins(),
            _measured_table(),
            codecs.table(),
            _memory_energy(),
        ),
        constants=used_constants().constants,
    )


def _text(outcomes: list[Outcome], clocks: list[Outcome]) -> list[str]:
    reference, slow = outcomes[0], outcomes[1]
    found = reference.mean("speedup", "apack"), reference.mean("efficiency", "apack")
    least = min(o.mean("speedup", "apack") for o in outcomes)
    most = max(o.mean("speedup", "apack") for o in outcomes)
    without = next(o for o in outcomes if o.setting.label == "without pruned AlexNet")
    traced = next(o for o in outcomes if o.setting.label.startswith("without IntelAI"))
    alone = reference.speedup["apack"]["alexnet_eyeriss"]
    return [
        "The paper gives means over an unnamed part of its 24 networks and leaves open what "
        "crosses to memory, whether transfers hide behind products, the energy on the chip, and "
        "the clock of the engines. The reference here: all 24 networks, every tensor crosses "
        "once, transfers overlap, DRAM at 90 % of its peak, engines four times as fast as "
        "described, which bind pruned AlexNet alone. None of its constants is fitted, but it was "
        "chosen among these settings knowing the paper's figures.",
        f"So it gives {found[0]:.2f}x and {found[1]:.2f}x with APack where the paper has 1.44x and "
        f"1.37x. One change at a time moves the speedup between {least:.2f}x and {most:.2f}x: the "
        "table below lists them. Closest to the paper comes the mean without IntelAI's networks, "
        "of whose activations the paper has no traces: "
        f"{traced.mean('speedup', 'apack'):.2f}x and {traced.mean('efficiency', 'apack'):.2f}x. "
        "That is no validation of the model, since which networks the paper averages is not known.",
        "What matters most is the speed of the engines. 64 of them at a value a cycle and 1 GHz "
        "carry 64 GB/s of values, less than the memory delivers after packing; they hold the mean "
        f"at {slow.mean('speedup', 'apack'):.2f}x. The paper's speedup needs them to be about "
        "twice as fast, or twice as many.",
        f"Next is the set of networks. Pruned AlexNet alone runs {alone:.1f} times as fast; "
        f"without it the mean is {without.mean('speedup', 'apack'):.2f}x. Networks that are bound "
        "by products, BERT among them, gain next to nothing, as the paper says.",
    ]


def _claims(reference: Outcome) -> list[Claim]:
    c = constants()
    dram, bank = memory(c), engines(c)
    watts = dram.active_w + dram.read_j_per_byte * dram.bytes_per_s
    setting = "all 24 networks, all tensors cross once, engines four times as fast"
    found = [
        Claim(
            f"{_TITLES[codec]}: mean {what}",
            f"{PAPER[what, codec]:.2f}x",
            reference.mean(what, codec),
            (round(PAPER[what, codec] - 0.1, 2), round(PAPER[what, codec] + 0.1, 2)),
            setting=setting,
        )
        for codec in CODECS
        for what in ("speedup", "efficiency")
    ]
    peak = c["cores"] * c["core_rows"] * c["core_columns"] * c["core_depth"] * c["clock_hz"]
    saved = _saved
    found += [
        Claim("DRAM, streaming at 90 %", "10.34 pJ/bit", watts / dram.bytes_per_s / 8e-12,
              (10.0, 10.7), " pJ/bit", "Micron's equations; the paper's from 179.2 mW being 4.7 %"),
        Claim("power of the engines beside DRAM's", "4.7 %", 100 * bank.power_w / watts,
              (4.5, 5.0), " %", "179.2 mW"),
        Claim("peak", "8.2 TOPS", 2e-12 * peak, (8.1, 8.3), " TOPS", "Table III"),
        Claim("energy of the memory saved, NCF, weights", "13 %", saved(c, 1 / 1.2), (12, 14),
              " %", "packed 1.2 times; engines while data move"),
        Claim("the same, NCF, activations", "53 %", saved(c, 1 / 2.2), (51, 54), " %",
              "packed 2.2 times"),
        Claim("the same, pruned AlexNet", "91 %", saved(c, _both("alexnet_eyeriss", "apack")),
              (90, 92), " %", "weights packed 11.4 times"),
        Claim("MobileNet v3, weights", "0.65", share("mobilenet_v3", "weights", "apack").value,
              (0.64, 0.66), "", "measured on torchvision's int8 weights, tables counted"),
    ]  # fmt: skip
    return found


def _saved(c: Constants, packed_share: float, codec: Codec = "apack") -> float:
    """Per cent of the memory's energy, engines counted while data move (Figure 6)."""
    dram, bank = memory(c), engines(c, codec)
    watts = dram.active_w + dram.read_j_per_byte * dram.bytes_per_s
    return 100 * (1 - packed_share * (watts + bank.power_w) / watts)


def _both(name: str, codec: Codec) -> float:
    """The share of weights and inputs together, which cross once each."""
    net = networks.load(name)
    weights, inputs = net.weight_bytes, net.input_bytes
    packed = weights * share(name, "weights", codec).value
    packed += inputs * share(name, "activations", codec).value
    return packed / (weights + inputs)


def _sensitivity(outcomes: list[Outcome]) -> Table:
    keys = [(codec, what) for codec in CODECS for what in ("speedup", "efficiency")]
    base = {key: outcomes[0].mean(key[1], key[0]) for key in keys}
    rows = []
    for found in outcomes:
        row: list[object] = [found.setting.label]
        for codec, what in keys:
            value = found.mean(what, codec)
            moved = round(value - base[codec, what], 2) + 0.0  # no -0.00
            change = "" if found is outcomes[0] else f" ({moved:+.2f})"
            row.append(f"{value:.2f}x{change}")
        rows.append(row)
    rows.append(["the paper", *(f"{PAPER[what, codec]:.2f}x" for codec, what in keys)])
    return Table(
        "What each assumption moves",
        ("one change from the reference", "APack: speedup", "efficiency", "ShapeShifter: speedup",
         "efficiency"),
        rows,
        "Reference: all 24 networks, arithmetic mean, every tensor crosses once, transfers "
        "overlap, DRAM at 90 %, 64 engines of a value a cycle at 4 GHz and the published power.",
    )  # fmt: skip


def _engine_lines(clocks: list[Outcome]) -> Lines:
    return Lines(
        "Mean speedup over the clock of 64 engines",
        {
            _TITLES[codec]: [
                (ghz, found.mean("speedup", codec))
                for ghz, found in zip(_CLOCKS_GHZ, clocks, strict=True)
            ]
            for codec in CODECS
        },
        "clock of the engines, GHz (a value a cycle)",
        "speedup",
        "Below about 0.75 GHz packing slows the accelerator down on average.",
        line=(PAPER["speedup", "apack"], "paper, APack"),
    )


def _network_bars(reference: Outcome, what: str, title: str) -> Bars:
    values = reference.speedup if what == "speedup" else reference.efficiency
    names = sorted(values["apack"], key=lambda name: -values["apack"][name])
    return Bars(
        title,
        [*(networks.about(name).title for name in names), "mean"],
        {
            _TITLES[codec]: [*(values[codec][name] for name in names), reference.mean(what, codec)]
            for codec in CODECS
        },
        "over no compression",
        line=(PAPER[what, "apack"], "paper's mean, APack"),
    )


def _traffic_bars(what: Tensors) -> Bars:
    names = networks.of_paper()
    return Bars(
        f"Traffic of {what} by network (the paper's Figure 5)",
        [networks.about(name).title for name in names],
        {_TITLES[codec]: [share(name, what, codec).value for name in names] for codec in CODECS},
        "share of the plain bytes",
        "Where each bar is from is in the table below.",
        line=(0.60 if what == "weights" else 0.48, "paper's mean, APack"),
    )


def _origins() -> Table:
    rows = []
    for name in networks.of_paper():
        row: list[object] = [networks.about(name).title]
        for what in TENSORS:
            for codec in CODECS:
                found = share(name, what, codec)
                row += [f"{found.value:.3f}", found.origin]
        rows.append(row)
    heads = ["network"]
    for what in TENSORS:
        for codec in CODECS:
            heads += [f"{what}, {_TITLES[codec]}", "origin"]
    return Table("Where the traffic is from", heads, rows)


def _measured_table() -> Table:
    rows = []
    for found in measured().values():
        for what, shares in found["shares"].items():
            if shares:
                count = found["values"][what]
                rows.append(
                    [found["title"], what, count, *(shares[codec] for codec in codecs.CODECS)]
                )
    return Table(
        "Measured here on real tensors",
        ("tensors", "", "values", *codecs.CODECS),
        rows,
        "python benchmarks/apack_traffic.py. Shares of the plain bytes, by bytes, everything in a "
        "frame counted. Activations: tables from five samples, four others packed.",
    )


def _memory_energy() -> Bars:
    names = networks.of_paper()
    c = constants()
    return Bars(
        "Energy of the memory by network (the paper's Figure 6)",
        [networks.about(name).title for name in names],
        {
            _TITLES[codec]: [1 - _saved(c, _both(name, codec), codec) / 100 for name in names]
            for codec in CODECS
        },
        "over no compression",
        "Weights and inputs cross once, as the paper has it here. ShapeShifter's engines are taken "
        "to need half of the power of APack's.",
    )


__all__ = ["REFERENCE", "STEPS", "study"]

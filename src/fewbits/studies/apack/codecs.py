"""Every codec on the networks of which real tensors were measured, run-length coding included."""

from fewbits.machines import networks
from fewbits.machines.result import compare
from fewbits.machines.tensorcore import constants, simulate
from fewbits.machines.traffic import NONE, Traffic
from fewbits.studies.apack.settings import FAST
from fewbits.studies.apack.shares import MEASURED, measured
from fewbits.studies.figures import Table

CODECS = ("apack", "fewbits", "shapeshifter", "rle", "rlez")


def traffic(name: str, codec: str) -> Traffic:
    """Measured weights, and measured activations: the network's kind's, where not its own."""
    found = measured()
    own = found[MEASURED[name]]["shares"]
    activations = own["activations"] or found["convolutions"]["shares"]["activations"]
    return Traffic(codec, own["weights"][codec], activations[codec], origin="measured")


def table() -> Table:
    """Speedup and energy efficiency by network and codec."""
    c = constants().with_values(FAST)
    rows = []
    for name in MEASURED:
        net = networks.load(name)
        packed = {codec: simulate(net, traffic(name, codec), c) for codec in CODECS}
        for codec, found in compare({"none": simulate(net, NONE, c), **packed}).items():
            row = [networks.about(name).title, codec]
            rows.append([*row, found["traffic"], found["speedup"], found["energy_efficiency"]])
    return Table(
        "Every codec where real tensors were measured",
        ("network", "codec", "traffic", "speedup", "energy efficiency"),
        rows,
        "Weights as in the table above. Activations of MiniLM for BERT; for the two convolutional "
        "networks those of the one that was trained here. Run-length coding finds no runs in "
        "weights that are not pruned, and makes them larger.",
    )

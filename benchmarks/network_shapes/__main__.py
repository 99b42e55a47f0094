"""Writes the shapes of networks that the package ships: ``python benchmarks/network_shapes``.

Needs ``pip install torch torchvision timm``; no weights, everything is on the meta device.
"""

import argparse
import json
from pathlib import Path

from sources import SOURCES, Source

import fewbits.machines.networks as shipped
from fewbits.machines.networks import to_row
from fewbits.machines.workload import Workload

FOLDER = Path(shipped.__file__).parent


def text_of(source: Source, workload: Workload) -> str:
    """The file of a network: an operation a line, so that a change is seen in a diff."""
    head = {"title": source.title, "made_by": source.made_by}
    head |= {"note": source.note} if source.note else {}
    head |= {"paper_row": source.paper_row} if source.paper_row else {}
    lines = [f" {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    rows = ",\n".join(f"  {json.dumps(to_row(op))}" for op in workload.operations)
    return "\n".join(["{", *lines, ' "operations": [', rows, " ]", "}"]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="networks (default: all)")
    parser.add_argument("--check", action="store_true", help="only say which files differ")
    options = parser.parse_args()
    for name in options.names or SOURCES:
        source = SOURCES[name]
        workload = source.build()
        text = text_of(source, workload)
        path = FOLDER / f"{name}.json"
        if options.check:
            print(f"{name}: {'same' if path.read_text('utf-8') == text else 'DIFFERS'}")
            continue
        path.write_text(text, "utf-8")
        print(
            f"{name}: {len(workload)} operations, {workload.macs / 1e6:.1f} MMAC, "
            f"{workload.stored_bytes / 1e6:.2f} M weights, "
            f"{workload.input_bytes / 1e6:.2f} M inputs"
        )


if __name__ == "__main__":
    main()

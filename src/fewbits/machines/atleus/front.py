"""A search's front as files: a table, a picture of it, and of each network picture and graph."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fewbits.machines.atleus import figures
from fewbits.machines.atleus.constants import Hardware
from fewbits.machines.atleus.design import Design, Front
from fewbits.machines.atleus.machine import Job
from fewbits.machines.constants import Constants
from fewbits.machines.parts.noc import anynet, virtual_layers


def write_front(
    front: Front,
    job: Job,
    constants: Constants,
    folder: Path,
    advance: Callable[[int], None] = lambda count: None,
) -> list[dict[str, Any]]:
    """Write ``front.csv``, ``front.png``, and for each network ``NAME.png`` and ``NAME.anynet``.

    The mesh and the curves that the search began with are among them. Returns the table's rows;
    ``virtual_channels`` is how many a network needs so that no two packets wait for each other.
    """
    hardware = Hardware.of(constants.recording())
    rows = []
    for design in (front.mesh, front.curves, *front.designs):
        figures.draw_design(design, hardware.systolic_place, folder / f"{design.name}.png")
        text = anynet(design.network, hardware.wires)
        (folder / f"{design.name}.anynet").write_text(text, "utf-8")
        rows.append(design.to_dict() | {"virtual_channels": channels(design, hardware)})
        if design.name.startswith("network"):
            advance(1)
    with (folder / "front.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    figures.draw_front(front, folder / "front.png")
    return rows


def channels(design: Design, hardware: Hardware) -> int:
    """Virtual channels that routes between any two routers need."""
    count = len(design.network.places)
    pairs = [(a, b) for a in range(count) for b in range(count) if a != b]
    return 1 + max(virtual_layers(design.network.routes(hardware.wires), pairs))

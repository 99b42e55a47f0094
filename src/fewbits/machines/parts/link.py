"""Links between chips: point to point, and the collective that data parallelism needs.

>>> ring_all_reduce_bytes(100.0, 4)  # each of 4 sends 2 * 3/4 of the data
150.0
>>> Link(bytes_per_s=10.0, latency_s=1.0).seconds(20.0)
3.0
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """A link in one direction."""

    bytes_per_s: float
    latency_s: float = 0.0
    pj_per_bit: float = 0.0

    def seconds(self, nbytes: float, messages: float = 1) -> float:
        """Seconds for so many bytes in so many messages, one after another."""
        return self.latency_s * messages + nbytes / self.bytes_per_s

    def energy_j(self, nbytes: float) -> float:
        """Joules for so many bytes."""
        return nbytes * 8e-12 * self.pj_per_bit


def ring_all_reduce_bytes(nbytes: float, devices: int) -> float:
    """Bytes that each device sends to sum ``nbytes`` over a ring, and as many that it receives.

    2 (n - 1) / n of the data: a reduce-scatter and an all-gather of n - 1 steps each (Patarasuk and
    Yuan, *Bandwidth optimal all-reduce algorithms for clusters of workstations*, 2009).
    """
    return 2 * (devices - 1) / devices * nbytes


def ring_all_reduce_seconds(nbytes: float, devices: int, link: Link) -> float:
    """Seconds for it: 2 (n - 1) messages, one after another."""
    if devices == 1:
        return 0.0
    return link.seconds(ring_all_reduce_bytes(nbytes, devices), 2 * (devices - 1))

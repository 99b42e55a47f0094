"""What the IPU model computes with, and where each number is from."""

from fewbits.machines.constants import Constant, Constants

_DATASHEET = "Graphcore, Bow-2000 IPU-Machine datasheet"
_MARK2 = "Graphcore, Mk2 IPU figures as quoted by C. Blake, thecharlieblake.co.uk/ipus"


def constants() -> Constants:
    """A Bow IPU in machines of four."""
    return Constants(
        Constant("tiles", 1472, "", f"{_DATASHEET}: 5888 cores of four IPUs", "cited"),
        Constant("tile_bytes", 624 * 1024, "B", _MARK2, "cited", low=1),
        Constant(
            "usable_share", 0.6, "", "what code, vertex state and exchange buffers leave; tuned, "
            "see the page", "assumed", low=0.01, high=1,
        ),
        Constant(
            "peak_fp16_flop_per_s", 349e12, "FLOP/s", f"{_DATASHEET}: 1.394 PFLOP/s of four IPUs",
            "cited", low=1,
        ),
        Constant(
            "peak_fp32_flop_per_s", 87e12, "FLOP/s", "a quarter of the fp16 figure, as in Mk2 "
            "(62.5 of 250)", "derived", low=1,
        ),
        Constant(
            "compute_efficiency", 0.2, "", "share of the peak that training reaches; tuned, see "
            "the page", "assumed", low=1e-4, high=1,
        ),
        Constant(
            "codec_efficiency", 0.1, "", "share of the peak that products of 8x8 blocks reach",
            "assumed", low=1e-4, high=1,
        ),
        Constant(
            "sram_bytes_per_s", 65.25e12, "B/s", "Bow-2000: 261 TB/s of four IPUs", "cited", low=1
        ),
        Constant("machine_devices", 4, "", _DATASHEET, "cited", low=1),
        Constant(
            "streaming_bytes_per_s", 38.4e9, "B/s", "two DDR4-2400 modules a machine, 8 bytes "
            "wide, shared by its IPUs", "derived", low=1,
        ),
        Constant(
            "port_bytes_per_s", 20e9, "B/s", "the most one IPU can draw of it; no source found; "
            "tuned, see the page", "assumed", low=1,
        ),
        Constant("streaming_bytes", 256e9, "B", f"{_DATASHEET}: up to 256 GB", "cited", low=1),
        Constant(
            "link_bytes_per_s", 64e9, "B/s", f"{_DATASHEET}: IPU-Link, 512 Gbit/s", "cited", low=1
        ),
        Constant("sync_s", 5e-6, "s", "barrier between devices at the end of a round", "assumed"),
        Constant("device_w", 375.0, "W", "a machine of 1.5 kW, shared by four", "assumed"),
        Constant(
            "streaming_j_per_byte", 8 * 10.3e-12, "J/B", "DDR4 at 10.3 pJ/bit, as the tensor-core "
            "machine", "derived",
        ),
        Constant("link_j_per_byte", 8 * 5e-12, "J/B", "5 pJ/bit of a serial link", "assumed"),
    )  # fmt: skip

"""What ``pack`` and ``unpack`` say when they are done."""

from typing import TYPE_CHECKING

from fewbits.cli import console

if TYPE_CHECKING:
    from fewbits.files import Totals


def tell(
    src: str,
    dst: str,
    totals: "Totals",
    seconds: float,
    *,
    mean_ratio: float | None = None,
    as_json: bool,
    quiet: bool,
) -> None:
    """One line, or JSON; with a mean ratio (of the tensors) both ratios are told."""
    ratio = totals.bytes_in / totals.bytes_out if totals.bytes_out else 1.0
    if as_json:
        ratios = {} if mean_ratio is None else {"ratio": ratio, "mean_ratio": mean_ratio}
        console.print_json(
            {
                "source": src,
                "destination": dst,
                "files": totals.files,
                "tensors": totals.tensors,
                "deltas": totals.deltas,
                "bytes_before": totals.bytes_in,
                "bytes_after": totals.bytes_out,
                **ratios,
                "seconds": seconds,
            }
        )
    elif not quiet:
        both = ""
        deltas = f" ({console.plural(totals.deltas, 'delta')})" if totals.deltas else ""
        if mean_ratio is not None:
            both = f"ratio {ratio:.3f} (mean of the tensors' ratios {mean_ratio:.3f}), "
        print(
            f"{console.printable(dst)}: {console.plural(totals.files, 'file')}, "
            f"{console.plural(totals.tensors, 'tensor')}{deltas}, "
            f"{console.size(totals.bytes_in)} -> {console.size(totals.bytes_out)}, "
            f"{both}{seconds:.1f} s"
        )

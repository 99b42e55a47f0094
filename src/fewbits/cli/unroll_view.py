"""What ``fewbits unroll`` prints: plans and checks, for people and for scripts, and its lists."""

import sys
from typing import TYPE_CHECKING, Any

from fewbits.cli import console

if TYPE_CHECKING:
    from fewbits.unroll.generate import Unrolled
    from fewbits.unroll.verify import Report


def tell(made: "Unrolled", report: "Report | None", dst: str | None) -> None:
    """Print what was made, how much memory it takes, and what the check found."""
    from fewbits.unroll.timeline import chart

    before, after = made.planned.before, made.planned.schedule
    if dst is not None:
        print(f"{console.printable(dst)}: {console.plural(len(made.source.splitlines()), 'line')}")
    if made.graph.loss:
        print()
        print(chart(made.planned, ascii_only=not _shows_blocks()))
        print()
        print(
            f"resting {console.size(before.resting_bytes)} -> {console.size(after.resting_bytes)}"
            f" ({before.resting_bytes / max(after.resting_bytes, 1):.1f}x), "
            f"most after any line, with parameters and gradients: "
            f"{console.size(before.peak)} -> {console.size(after.peak)}"
        )
        if made.planned.extra_s:
            print(f"modelled time for it: {1e3 * made.planned.extra_s:.2f} ms a step")
    else:
        print("no loss: only forward is written")
    if made.planned.note:
        print(made.planned.note)
    if report is not None:
        _tell_report(report)


def _tell_report(report: "Report") -> None:
    small = " ".join(f"{name}={value}" for name, value in report.sizes.items())
    at = f" (at {small})" if small else ""
    verdict = "agree with" if report.fine else "DIFFER from"
    print(f"gradients {verdict} autograd: relative error {report.error:.1e} at most{at}")
    if not report.fine:
        print(f"worst: {report.worst}")
    worst = sorted(report.cosines.items(), key=lambda item: item[1])
    if worst:
        mean = sum(report.cosines.values()) / len(worst)
        least = ", ".join(f"{name} {cosine:.4f}" for name, cosine in worst[:3])
        print(f"with the codec, cosine to the exact gradients: mean {mean:.4f}; least: {least}")


def _shows_blocks() -> bool:
    try:
        "▁█".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def print_timeline(made: "Unrolled") -> None:
    """Print the bytes after each line."""
    from fewbits.unroll.timeline import rows

    print(f"\n{'resting':>10} {'held':>10}  after")
    for label, resting, live in rows(made.planned.schedule):
        print(f"{console.size(resting):>10} {console.size(live):>10}  {label}")


def document(made: "Unrolled", report: "Report | None", dst: str | None) -> dict[str, Any]:
    """The same for ``--json``."""
    before, after = made.planned.before, made.planned.schedule
    found: dict[str, Any] = {
        "model": made.file,
        "destination": dst,
        "parameters": after.parameters // 4,
        "resting_bytes_before": before.resting_bytes,
        "resting_bytes": after.resting_bytes,
        "peak_bytes_before": before.peak,
        "peak_bytes": after.peak,
        "modelled_extra_s": made.planned.extra_s,
        "note": made.planned.note,
        "fits": made.planned.fits,
        "activations": {
            name: {
                "how": rest.how,
                "codec": rest.codec.name if rest.codec else None,
                "bytes": after.resting.get(name, 0),
            }
            for name, rest in after.plan.items()
        },
    }
    if report is not None:
        found["check"] = {
            "ok": report.fine,
            "relative_error": report.error,
            "worst": report.worst,
            "sizes": dict(report.sizes),
            "cosines": report.cosines,
        }
    return found


def print_operations(as_json: bool) -> None:
    """``--list-ops``."""
    from fewbits.unroll.operations import FAMILIES

    if as_json:
        console.print_json(
            {
                operation.name: {
                    "family": family,
                    "summary": operation.summary,
                    "arguments": list(operation.arguments),
                    "attributes": [a.describe(key) for key, a in operation.attributes.items()],
                }
                for family, operations in FAMILIES.items()
                for operation in operations
            }
        )
        return
    for family, operations in FAMILIES.items():
        print(f"{family}")
        for operation in operations:
            more = " ..." if operation.variadic else ""
            attributes = [a.describe(key) for key, a in operation.attributes.items()]
            line = " ".join([operation.name, *operation.arguments]) + more
            print(f"  {' '.join([line, *attributes])}\n      {operation.summary}")


def print_models(as_json: bool) -> None:
    """``--list-models``."""
    from fewbits.unroll import models
    from fewbits.unroll.text import parse

    titles = {
        name: parse(models.path_of(name).read_text("utf-8"), file=name).title
        for name in models.names()
    }
    if as_json:
        console.print_json(titles)
        return
    for name, title in titles.items():
        print(f"{name:10} {title}")

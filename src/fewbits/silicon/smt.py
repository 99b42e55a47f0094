"""Asks z3 whether a circuit's assertions can fail, on the model of it that Yosys writes."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from amaranth.back import rtlil

from fewbits.errors import FewbitsError
from fewbits.silicon import yosys
from fewbits.silicon.proofs import Claim

_SCRIPT = """\
read_rtlil design.il
hierarchy -top top
proc
flatten
opt_clean
chformal -lower
async2sync
dffunmap
opt_clean
write_smt2 -wires design.smt2
"""


@dataclass(frozen=True)
class Verdict:
    """Whether the assertions hold: proven, refuted, or given up after the time that was allowed."""

    answer: str  # "proven", "refuted", "unknown"

    def __bool__(self) -> bool:
        return self.answer == "proven"


def prove(claim: Claim, *, timeout_s: float = 60.0) -> Verdict:
    """Whether the circuit's assertions hold in every reachable state, by induction over one step.

    They must hold in the initial state, and in each state that follows one where they and the
    assumptions hold. So assertions must say all that the induction needs; without registers, this
    is simply whether they hold. ``FewbitsError`` without Yosys or z3.
    """
    try:
        import z3
    except ModuleNotFoundError:
        raise FewbitsError("proofs need z3: pip install 'fewbits[synthesis]'") from None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "design.il").write_text(
            rtlil.convert(claim.circuit, name="top", ports=claim.inputs), "utf-8"
        )
        yosys.run(_SCRIPT, folder)
        model = (folder / "design.smt2").read_text("utf-8")
    good = "(|top_u| {0}) (|top_h| {0})"
    start = f"(|top_i| s0) {good.format('s0')} (not (|top_a| s0))"
    step = (
        f"{good.format('s0')} (|top_a| s0) (|top_t| s0 s1) {good.format('s1')} (not (|top_a| s1))"
    )
    for states, question in ((("s0",), start), (("s0", "s1"), step)):
        solver = z3.SolverFor("QF_UFBV")
        solver.set("timeout", int(1000 * timeout_s))
        declared = "".join(f"(declare-fun {state} () |top_s|)\n" for state in states)
        solver.from_string(f"{model}\n{declared}(assert (and {question}))\n")
        answer = solver.check()
        if answer == z3.sat:
            return Verdict("refuted")
        if answer != z3.unsat:
            return Verdict("unknown")
    return Verdict("proven")

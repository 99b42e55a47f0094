"""Cycles of one matrix product from SCALE-Sim, for the optional test that asks the package."""

import csv
from pathlib import Path

CONFIG = """[general]
run_name = run
[architecture_presets]
ArrayHeight: {rows}
ArrayWidth: {columns}
IfmapSramSzkB: 1024
FilterSramSzkB: 1024
OfmapSramSzkB: 1024
IfmapOffset: 0
FilterOffset: 10000000
OfmapOffset: 20000000
Bandwidth: 10
Dataflow: {dataflow}
MemoryBanks: 1
ReadRequestBuffer: 32
WriteRequestBuffer: 32
[layout]
IfmapCustomLayout: False
IfmapSRAMBankBandwidth: 10
IfmapSRAMBankNum: 10
IfmapSRAMBankPort: 2
FilterCustomLayout: False
FilterSRAMBankBandwidth: 10
FilterSRAMBankNum: 10
FilterSRAMBankPort: 2
[sparsity]
SparsitySupport: false
SparseRep: ellpack_block
OptimizedMapping: false
BlockSize: 8
RandomNumberGeneratorSeed: 40
[run_presets]
InterfaceBandwidth: CALC
UseRamulatorTrace: False
"""


def cycles_of(m, k, n, rows, columns, dataflow):
    """``Total Cycles`` of its report; writes files into the current folder."""
    from scalesim.scale_sim import scalesim

    Path("c.cfg").write_text(CONFIG.format(rows=rows, columns=columns, dataflow=dataflow))
    Path("t.csv").write_text(f"Layer,M,N,K,\ng,{m},{n},{k},\n")
    # It wants a layout even where layouts are off: a header of 20 columns, and ones.
    Path("l.csv").write_text("Layer" + ",x" * 20 + ",\ng" + ",1" * 20 + ",\n")
    made = scalesim(
        save_disk_space=True, verbose=False, config="c.cfg", topology="t.csv", layout="l.csv",
        input_type_gemm=True,
    )  # fmt: skip
    made.run_scale(top_path="out")
    with Path("out/run/COMPUTE_REPORT.csv").open() as file:
        heads, row = list(csv.reader(file))[:2]
    return int(row[[head.strip() for head in heads].index("Total Cycles")])

#!/bin/sh
# Runs the testbenches with Icarus Verilog, or with Verilator where that is what there is.
# +full: no stalls.
set -e
cd "$(dirname "$0")"
for side in encoder decoder; do
  if command -v iverilog >/dev/null; then
    iverilog -g2005-sv -o "$side.vvp" "${side}_engine.v" "${side}_engine_tb.v"
    vvp -n "$side.vvp" "$@"
  else
    verilator --binary --timing -Wno-fatal -Wno-lint --Mdir "$side.obj" --top-module tb \
      "${side}_engine.v" "${side}_engine_tb.v" >/dev/null
    "$side.obj/Vtb" "$@"
  fi
done

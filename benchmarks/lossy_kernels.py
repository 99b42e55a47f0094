"""How fast the forms of the flat codecs are, next to a copy of the same tensor.

    python benchmarks/lossy_kernels.py [--elements N] [--threads T] [--all-simd] [CODEC...]

Bytes of the unpacked tensor per second, GB = 10^9, best of several runs by processor time (by wall
time on a GPU and with several threads), and as a share of the speed of copying the tensor. The
tensor is made up: normal numbers, cut off below zero.
"""

import argparse
import os
import time

import torch

from fewbits import _kernels
from fewbits.lossy import TensorSpec, codec

CODECS = ["int8", "int4", "int2", "int1", "int3", "int4-stochastic", "int4-zeros", "mask", "bits"]
CODECS += ["mask+int4", "bf16", "fp8", "int4+lossless"]


def best(work, clock, device, repeats=7):
    times = []
    for _ in range(repeats):
        if device == "cuda":
            torch.cuda.synchronize()
        before = clock()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(clock() - before)
    return min(times)


def forms(device, all_simd):
    if device == "cuda":
        return [("torch", ""), ("triton", "")]
    sets = _kernels.available_simd() if all_simd else [_kernels.simd()]
    return [("torch", ""), *(("native", simd) for simd in sets)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("codecs", nargs="*", default=CODECS, metavar="CODEC")
    parser.add_argument("--elements", type=int, default=1 << 22)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--all-simd", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    alone = device == "cpu" and options.threads == 1
    clock = time.process_time if alone else time.perf_counter
    x32 = (
        torch.randn(options.elements, generator=torch.Generator().manual_seed(0)).relu().to(device)
    )
    print(
        f"{options.elements} elements, {options.threads} thread(s), {device}, "
        f"torch {torch.__version__}"
    )
    print(
        f"{'codec':16} {'dtype':9} {'form':16} {'encode GB/s':>16} {'decode GB/s':>16} {'ratio':>6}"
    )
    for dtype in (torch.float32, torch.bfloat16):
        x = x32.to(dtype)
        spec, copy = TensorSpec.of(x), torch.empty_like(x)
        copying = best(lambda x=x, copy=copy: copy.copy_(x), clock, device)
        print(f"{'copy':16} {str(dtype)[6:]:9} {'':16} {spec.nbytes / copying / 1e9:9.2f}")
        for name in options.codecs:
            for form, simd in forms(device, options.all_simd):
                os.environ["FEWBITS_LOSSY"] = form
                if simd:
                    _kernels.set_simd(simd)
                some = codec(name)
                parts = some.encode(x)
                speeds = [
                    spec.nbytes / seconds / 1e9
                    for seconds in (
                        best(lambda some=some, x=x: some.encode(x), clock, device),
                        best(lambda s=some, p=parts, t=spec: s.decode(p, t), clock, device),
                    )
                ]
                shares = [f"{v:9.2f} ({v * copying * 1e9 / spec.nbytes:4.0%})" for v in speeds]
                ratio = spec.nbytes / sum(part.nbytes for part in parts)
                print(
                    f"{name:16} {str(dtype)[6:]:9} {form + ' ' + simd:16} {shares[0]:>16} "
                    f"{shares[1]:>16} {ratio:6.2f}"
                )


if __name__ == "__main__":
    main()

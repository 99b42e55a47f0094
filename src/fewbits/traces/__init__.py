"""Traces: weights and activations of a running model, to measure what packing them gives.

A trace is an archive like any other. It holds ``LAYER.weight`` for each layer that multiplies, up
to nine samples ``LAYER.input.N`` of what the layer reads, and in its metadata the workload.

>>> import numpy as np
>>> rng = np.random.default_rng(0)
>>> samples = [rng.poisson(3, (1, 64)).astype(np.uint8) for _ in range(9)]
>>> trace = Trace({"layer": rng.normal(0, 9, (64, 64)).astype(np.int8)}, {"layer": samples})
>>> traffic = measure(trace, "shapeshifter")
>>> round(traffic.weights, 2), round(traffic.activations, 2)
(0.72, 0.42)
"""

from fewbits.traces.measuring import CODECS, matched, measure
from fewbits.traces.recording import SAMPLES, record
from fewbits.traces.trace import Trace, load

__all__ = ["CODECS", "SAMPLES", "Trace", "load", "matched", "measure", "record"]

"""Codecs for PyTorch tensors: what they keep, what they lose, and by how much at most.

A codec's parts are tensors on the device of the tensor it was given, so that the same codec serves
saved activations on a GPU, a compiled graph, and a generated training step.
"""

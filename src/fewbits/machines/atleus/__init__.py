"""Atleus: transformers on a stack of ReRAM tiers and a tier of systolic arrays.

`machine` runs a job, `mapping` lays out the weights, `pipeline` times a layer, `traffic` and
`design` are about the network-on-chip, `heat` about temperatures, `baselines` what it is compared
with. Numbers are in `constants`, each with its source.
"""

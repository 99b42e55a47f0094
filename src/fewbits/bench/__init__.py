"""Fewbits beside other lossless compressors, on the user's own tensors.

``data`` says what is packed, ``codecs`` and ``peers`` with what, ``measure`` how it is timed, and
``plot`` draws ratio against speed.
"""

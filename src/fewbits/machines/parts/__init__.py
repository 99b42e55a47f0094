"""Parts that machines are made of: memory, compression engines, arrays, buffers, links.

Each part comes with its constants, under a prefix of their own, and reads them from the set of the
machine. All arithmetic broadcasts, so that a sweep goes through it in one pass.
"""

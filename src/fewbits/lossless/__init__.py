"""The lossless codec: range tables, their search, coders, and the paper's baselines."""

"""What `benchmarks/atleus.py` measures, one file a study."""

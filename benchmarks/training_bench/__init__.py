"""What `benchmarks/training.py` is made of: four tasks, how they are measured, and the plots."""

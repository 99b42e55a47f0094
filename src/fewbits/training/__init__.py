"""Train in a fraction of the activation memory: what autograd saves rests packed."""

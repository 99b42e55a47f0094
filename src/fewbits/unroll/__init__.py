"""A training step with its backward pass written out, from a model in text.

``text`` reads a model, ``graph`` checks it, ``program`` writes forward and backward as lines,
``schedule`` says what rests between them, ``planner`` decides how, ``emit`` prints Python.
"""

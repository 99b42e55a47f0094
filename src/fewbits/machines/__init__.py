"""What packing buys on a machine: models of machines on common parts.

A *workload* (``workload.py``, from ``networks``, ``transformers``, ``modules`` or ``onnx``) runs on
a *machine* (one file each), which gives a *result* (``result.py``): time, energy and traffic of
every layer and what bounds it.

>>> from fewbits.machines import networks
>>> net = networks.load("resnet50", batch=4)
>>> round(net.macs / 4 / 1e9, 2)
4.09

To build a machine:

* Put every number that is not in the workload into a ``Constants`` set, each with unit, source and
  kind, and start a run with ``constants = constants.recording()``; ``constants["clock_hz"]`` gives
  the value and notes that it was used. Return a ``Result`` with ``constants=constants.used``. What
  a user may set or sweep (a number of engines, a ratio) is such a constant as well; then ``--set``,
  ``--sweep`` and ``--explain`` work by themselves.
* Write the arithmetic with NumPy on one number for each operation, ``net.column("macs")``, and it
  also runs on a thousand settings at once: in a sweep, constants are arrays of shape
  (configurations, 1). A machine that branches on constants says ``vectorised=False`` to ``deliver``
  and is run once for each setting.
* Its command is ``cli/simulate_NAME.py`` with a function ``NAME`` and an ``EXAMPLE``; it ends with
  ``results.deliver(run, constants, ...)`` where ``run(constants)`` gives results by variant, the
  first being what the others are compared with. ``cli/simulate_tensorcore.py`` is one to look at.
* Its paper is ``studies/NAME.py`` with ``STEPS`` and ``study(advance) -> Study``.
* Faults of the user raise ``FewbitsError`` with one line; unknown names add ``did_you_mean``.
"""

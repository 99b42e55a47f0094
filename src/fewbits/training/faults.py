"""What went wrong with a tensor that backward asks for."""

from fewbits.errors import FewbitsError


class ModifiedError(FewbitsError, RuntimeError):
    """Where autograd itself would refuse: a tensor that is held as it was is not so any more."""

"""What stops a run on purpose."""


class NonFiniteError(RuntimeError):
    """A loss, a gradient or a dev logit was NaN or infinite; the weights are those of the last good step."""

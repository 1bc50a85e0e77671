"""Where a model looks up its tokens."""

from torch import nn


def token_embedding(model: nn.Module) -> nn.Module | None:
    """The embedding of tokens, as the model itself names it; None where it names none.

    CANINE has none to name: it hashes characters, and looks each up in several tables.
    """
    named = getattr(model, "get_input_embeddings", None)
    try:
        return named() if callable(named) else None
    except NotImplementedError:
        return None

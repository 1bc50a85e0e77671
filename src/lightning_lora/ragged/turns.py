"""One thread at a time in a model whose configuration and hooks are changed while a ragged batch runs."""

from contextlib import AbstractContextManager
from threading import Lock, RLock
from weakref import WeakKeyDictionary

from torch import nn

# Not an attribute of the model: a lock can be neither copied nor pickled.
_turns: WeakKeyDictionary[nn.Module, AbstractContextManager[bool]] = WeakKeyDictionary()
_handing_out = Lock()


def turn_in(model: nn.Module) -> AbstractContextManager[bool]:
    """The model's lock, to be held for as long as the model is not as its owner knows it; a thread may take it again.

    Who calls the model without it meanwhile, such as with a padded batch from another thread, gets the changed model.
    """
    with _handing_out:
        return _turns.setdefault(model, RLock())

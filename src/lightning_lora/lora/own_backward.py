"""Where an operation may bring a backward of its own, an `autograd.Function`, instead of being composed of torch's."""

import torch
import torch.autograd.forward_ad as fwAD
from torch import Tensor, nn

_PLAIN = (Tensor, nn.Parameter)


def may_have_own_backward(*tensors: Tensor) -> bool:
    """Whether autograd alone looks at what is done with ``tensors``.

    Compilers, tracers, function transforms and forward-mode differentiation see through torch's own operations only,
    and tensors of other classes (quantised, distributed, fake) bring operations of their own. On the meta device there
    is nothing to gain.
    """
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() or torch._C._are_functorch_transforms_active():
        return False
    # One pass: this is asked for every adapted layer of every step.
    for tensor in tensors:
        if type(tensor) not in _PLAIN or tensor.is_meta:
            return False
        if fwAD.unpack_dual(tensor).tangent is not None:  # type: ignore[no-untyped-call]
            return False
    return True

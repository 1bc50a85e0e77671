"""Digests of tensors: one for each, so that a model can be told from another and the difference named."""

import hashlib
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def tensor_digests(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, str]:
    """sha256 (hex) over dtype, shape and bytes of each tensor, by its name.

    Law: two tensors have one digest exactly where they are bit-equal, of one type and of one shape.
    """
    return {name: _digest(tensor) for name, tensor in tensors}


def fingerprint_of(digests: Mapping[str, str]) -> str:
    """sha256 (hex) over the lines ``name digest`` in order of the names: one digest for a whole model."""
    lines = "".join(f"{name} {digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def first_difference(saved: Mapping[str, str], found: Mapping[str, str]) -> str | None:
    """The first name, in their order, whose digest is not the same in both or stands in one only; None if all agree."""
    return next((name for name in sorted({**saved, **found}) if saved.get(name) != found.get(name)), None)


def _digest(tensor: Tensor) -> str:
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
    digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()

"""Digests tell tensors apart by their bits, types and shapes, and name what differs."""

import hashlib

import torch

from lightning_lora.digests import fingerprint_of, first_difference, tensor_digests


def test_a_digest_is_of_type_shape_and_bytes() -> None:
    weights = {"a": torch.ones(2, 3), "b": torch.zeros(4, dtype=torch.bfloat16)}
    digests = tensor_digests(weights.items())
    by_hand = hashlib.sha256(b"torch.float32 (2, 3)\n" + weights["a"].numpy().tobytes()).hexdigest()
    assert digests["a"] == by_hand
    others = [torch.ones(3, 2), torch.ones(2, 3, dtype=torch.float64), torch.nextafter(weights["a"], torch.tensor(2.0))]
    assert by_hand not in {tensor_digests([("a", other)])["a"] for other in others}
    assert tensor_digests([("a", torch.ones(3, 2).T.mul(1))])["a"] == by_hand, "memory order does not count"


def test_a_fingerprint_does_not_hang_on_the_order_but_on_every_name_and_digest() -> None:
    digests = tensor_digests([("a", torch.ones(2)), ("b", torch.zeros(2))])
    assert fingerprint_of(dict(reversed(digests.items()))) == fingerprint_of(digests)
    assert fingerprint_of({**digests, "b": digests["a"]}) != fingerprint_of(digests)
    assert fingerprint_of({"a": digests["a"], "c": digests["b"]}) != fingerprint_of(digests)


def test_the_first_tensor_that_differs_is_named() -> None:
    digests = tensor_digests([("b", torch.ones(2)), ("a", torch.zeros(2)), ("c", torch.zeros(2))])
    assert first_difference(digests, dict(reversed(digests.items()))) is None
    changed = {**digests, **tensor_digests([("b", torch.tensor([1.0, 1.0 + 2**-23])), ("c", torch.ones(2))])}
    assert first_difference(digests, changed) == "b"
    shorter = {name: digest for name, digest in digests.items() if name != "b"}
    assert first_difference(digests, shorter) == first_difference(shorter, digests) == "b"

"""Layers that are named by hand: what could carry no adapter, or none that has an effect, is refused in one line."""

from typing import Any

import pytest
import torch
from tiny_models import TINY, tiny_batch
from torch import Tensor, nn

from lightning_lora.inject import inject_adapter
from lightning_lora.lora import LoRALinear, LoraSpec

SPEC = LoraSpec(2)


class Doubling(nn.Linear):
    """Computes something else than its kind does."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class Renamed(nn.Linear):
    """The same as its kind."""


def model_with(layer: nn.Module) -> Any:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    model[0] = layer
    return model


def test_a_layer_whose_class_has_a_forward_of_its_own_is_refused() -> None:
    with pytest.raises(ValueError, match="a Doubling, which cannot be adapted, is named '0'"):
        inject_adapter(model_with(Doubling(4, 4)), SPEC, modules=["0"])
    x, layer = torch.randn(3, 4), Renamed(4, 4)
    expected = layer(x)
    model = model_with(layer)
    inject_adapter(model, SPEC, modules=["0"])
    assert isinstance(model[0], LoRALinear)
    assert torch.equal(model[0](x), expected)


def test_a_layer_whose_forward_was_replaced_is_refused() -> None:
    """As accelerate's hooks do it: the replaced one would be called, and the adapter never."""
    layer = nn.Linear(4, 4)
    plain = layer.forward
    layer.forward = lambda x: plain(x)  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="0 has had its forward replaced"):
        inject_adapter(model_with(layer), SPEC, modules=["0"])


def test_an_embedding_that_is_never_called_is_refused() -> None:
    """T5's `shared`, whose weight the embeddings of encoder and decoder look up in."""
    model = TINY["t5"]()
    called: set[nn.Module] = set()
    for module in model.modules():
        module.register_forward_hook(lambda module, *_: called.add(module))
    model(**tiny_batch())
    embeddings = {name: module in called for name, module in model.named_modules() if "embed_tokens" in name}
    assert model.transformer.shared not in called
    assert list(embeddings.values()) == [True, True]
    for modules in (["shared"], ["shared", "embed_tokens"]):
        with pytest.raises(
            ValueError, match=r"transformer\.shared only keeps .*encoder\.embed_tokens.*not called itself"
        ):
            inject_adapter(model, SPEC, modules=modules)
    report = inject_adapter(model, SPEC, modules=["embed_tokens"])
    assert {module.name for module in report.modules} == set(embeddings)


def test_blocks_are_no_silent_filter_of_what_lies_in_none() -> None:
    model = TINY["bert"]()
    with pytest.raises(ValueError, match=r"layers=\[0\]: bert\.embeddings\.word_embeddings is chosen too"):
        inject_adapter(model, SPEC, modules=["word_embeddings", "query"], layers=[0])
    report = inject_adapter(model, SPEC, modules=["query"], layers=[0])
    assert len(report.modules) == 1

"""Baselines by name."""

import pytest
from tiny_models import TINY

from lightning_lora.inject import train_baseline


@pytest.mark.parametrize("name", ["lora", "biffit"])
def test_a_name_of_no_baseline_is_refused_and_nothing_is_frozen(name: str) -> None:
    model = TINY["bert"]()
    with pytest.raises(ValueError, match=f"method='{name}' is unknown; choose one of head, bitfit, full"):
        train_baseline(model, name)
    assert all(parameter.requires_grad for parameter in model.parameters())


BIASES = {
    "bert": {
        "bert.embeddings.LayerNorm.bias",
        "bert.encoder.layer.{n}.attention.self.query.bias",
        "bert.encoder.layer.{n}.attention.self.key.bias",
        "bert.encoder.layer.{n}.attention.self.value.bias",
        "bert.encoder.layer.{n}.attention.output.dense.bias",
        "bert.encoder.layer.{n}.attention.output.LayerNorm.bias",
        "bert.encoder.layer.{n}.intermediate.dense.bias",
        "bert.encoder.layer.{n}.output.dense.bias",
        "bert.encoder.layer.{n}.output.LayerNorm.bias",
        "bert.pooler.dense.bias",
    },
    "gpt2": {
        "transformer.h.{n}.ln_1.bias",
        "transformer.h.{n}.attn.c_attn.bias",
        "transformer.h.{n}.attn.c_proj.bias",
        "transformer.h.{n}.ln_2.bias",
        "transformer.h.{n}.mlp.c_fc.bias",
        "transformer.h.{n}.mlp.c_proj.bias",
        "transformer.ln_f.bias",
    },
}
"""Written by hand; {n} is the number of one of two blocks."""


@pytest.mark.parametrize(
    ("model_type", "head"),
    [("bert", ["classifier.weight", "classifier.bias"]), ("gpt2", ["score.weight"])],
)
def test_bitfit_trains_every_bias_and_the_head_and_nothing_else(model_type: str, head: list[str]) -> None:
    model = TINY[model_type]()
    train_baseline(model, "bitfit", head)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {name.format(n=n) for name in BIASES[model_type] for n in (0, 1)} | set(head)

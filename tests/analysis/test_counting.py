"""Counts before injection against the injection itself, the real PEFT, the papers' numbers and arithmetic by hand."""

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft_peer import MODELS, new_of
from tiny_models import TINY
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel, RobertaConfig

from lightning_lora.analysis import AdapterCount, count_adapter
from lightning_lora.analysis.counting import ProjectionKind
from lightning_lora.inject import inject_adapter
from lightning_lora.lora import LoraSpec
from lightning_lora.targets import ROLE_SETS

# PEFT's names of query and value, and of the modules that it copies for a sequence classifier.
QUERY_AND_VALUE = {
    "bert": ["query", "value"],
    "roberta": ["query", "value"],
    "distilbert": ["q_lin", "v_lin"],
    "deberta-v2": ["query_proj", "value_proj"],
    "llama": ["q_proj", "v_proj"],
}
COPIED = ("classifier", "pre_classifier", "score")


def size(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def roberta(hidden: int, layers: int) -> PreTrainedModel:
    """RoBERTa's shapes without values (Liu et al. 2019, arXiv 1907.11692, table 9), for the three labels of MNLI."""
    shape: dict[str, Any] = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 64,
        "intermediate_size": 4 * hidden,
    }
    config = RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, num_labels=3, **shape)
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForSequenceClassification.from_config(config)
    return model


@pytest.mark.parametrize("choice", ["qv", "qkvo", "mlp", "all"])
@pytest.mark.parametrize("architecture", sorted(TINY))
def test_counts_are_those_of_the_injection(architecture: str, choice: str) -> None:
    model = TINY[architecture]()
    new = [name for name, _ in model.named_parameters() if not name.startswith(f"{model.base_model_prefix}.")]
    before = list(model.named_modules())
    counted = count_adapter(model, 3, ROLE_SETS[choice], new)
    assert list(model.named_modules()) == before
    totals = inject_adapter(model, LoraSpec(3), roles=ROLE_SETS[choice], new_parameters=new).totals
    assert (counted.adapter, counted.head, counted.base) == (totals.adapter, totals.head, totals.frozen)
    assert counted.percent_with_head == totals.trainable_percent


@pytest.mark.parametrize("architecture", sorted(QUERY_AND_VALUE))
def test_peft_counts_a_copied_head_twice_in_its_total(architecture: str) -> None:
    build, heads, _ = MODELS[architecture]
    model = build()
    counted = count_adapter(model, 2, ROLE_SETS["qv"], new_of(model, heads))
    copied = size(model.get_parameter(name) for name in new_of(model, COPIED))
    config = LoraConfig(task_type="SEQ_CLS", r=2, target_modules=QUERY_AND_VALUE[architecture])
    trainable, total = get_peft_model(model, config).get_nb_trainable_parameters()
    assert counted.as_peft_counts(copied) == (trainable, total)
    assert 0 < copied <= counted.head
    assert total == counted.base + counted.adapter + counted.head + copied
    assert 100 * trainable / total != counted.percent_with_head


def test_a_new_module_that_peft_does_not_copy_is_not_trained_by_it() -> None:
    """DeBERTa's pooler is not in the checkpoint; the counts above differ by it."""
    build, heads, _ = MODELS["deberta-v2"]
    model = build()
    counted = count_adapter(model, 2, ROLE_SETS["qv"], new_of(model, heads))
    pooler = size(model.get_parameter(name) for name in new_of(model, ("pooler",)))
    assert pooler == 16 * 16 + 16
    copied = counted.head - pooler
    assert counted.adapter + counted.head - counted.as_peft_counts(copied)[0] == pooler


@pytest.mark.parametrize(("hidden", "layers", "adapter", "head"), [(768, 12, 294_912, 592_899), (1024, 24, 786_432, 0)])
def test_roberta_has_the_counts_of_the_paper(hidden: int, layers: int, adapter: int, head: int) -> None:
    """Table 2 of Hu et al. 2021 says 0.3M and 0.8M; Microsoft's own MNLI file holds 294,912 and a head of 592,899."""
    model = roberta(hidden, layers)
    counted = count_adapter(model, 8, ROLE_SETS["qv"], new_of(model, ("classifier",)))
    assert counted.adapter == adapter == 8 * 2 * layers * 2 * hidden
    if head:
        assert counted.head == head
    assert counted.reduction == hidden / (2 * 8)
    assert counted.reduction_of_model > 4 * counted.reduction, "one projection's factor is not the model's"


def test_the_documents_example_is_one_projection() -> None:
    """4096 square at rank 16: 128 times fewer, 0.78125 %; not so where the projection is not square."""
    square, oblong = (
        AdapterCount(16, (ProjectionKind(("query",), 4096, out, 1, 4096 + out),), 16 * (4096 + out), 0, 4096 * out)
        for out in (4096, 1024)
    )
    assert (square.adapter, square.reduction, square.percent_adapter_only) == (131_072, 128, 0.78125)
    assert oblong.reduction == 4096 * 1024 / (16 * 5120) == 51.2


def test_a_fused_projection_counts_its_adapted_parts() -> None:
    """GPT-2's c_attn, 16 wide: query and value are 2 of its 3 parts, each a term of its own on the same input."""
    counted = count_adapter(TINY["gpt2"](), 3, ROLE_SETS["qv"])
    (kind,) = counted.kinds
    assert (kind.roles, kind.in_features, kind.out_features, kind.layers) == (("query", "value"), 16, 32, 2)
    assert counted.adapter == 3 * 2 * (2 * 16 + 2 * 16)
    assert counted.adapted_weights == 2 * 16 * 32

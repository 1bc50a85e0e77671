"""What a whole model keeps for backward, counted in bytes, by the block that keeps it."""

from collections import Counter
from typing import Any

import pytest
import torch
from tiny_models import SETTINGS, VOCABULARY, build
from torch import Tensor, nn

from lightning_lora.inject import inject_adapter
from lightning_lora.lora import LoRALayer, LoraSpec, layers, use_cheap_dropout
from lightning_lora.ragged import ragged_logits
from lightning_lora.targets import ROLE_SETS

RANK, WIDTH, BLOCKS = 2, 64, 4
LENGTHS = [20] * 8
SIZES = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": BLOCKS}
HEAD = ["classifier.weight", "classifier.bias"]


def trainable() -> Any:
    torch.manual_seed(0)
    model_type, settings = SETTINGS["bert"]
    model = build(model_type, settings | SIZES).train()
    use_cheap_dropout(model)
    return model


def adapted(roles: str, dropout: float, blocks: list[int] | None = None) -> Any:
    model = trainable()
    spec = LoraSpec(rank=RANK, dropout=dropout)
    inject_adapter(model, spec, roles=ROLE_SETS[roles], layers=blocks, new_parameters=HEAD)
    return model.train()


def kept_by(model: Any) -> Counter[str]:
    """Bytes of the storages that are kept, but for the parameters', by the block in which they are first."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    place, kept, seen, alive = "embeddings", Counter[str](), set(parameters), list[Tensor]()

    def enter(name: str) -> Any:
        def hook(*_: Any) -> None:
            nonlocal place
            place = name

        return hook

    def pack(tensor: Tensor) -> Tensor:
        alive.append(tensor)  # or its address is given to another
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            kept[place] += storage.nbytes()
        return tensor

    for number, block in enumerate(model.bert.encoder.layer):
        block.register_forward_pre_hook(enter(f"block {number}"))
    ids = torch.randint(3, VOCABULARY, (1, sum(LENGTHS)))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = ragged_logits(model, {"input_ids": ids, "lengths": torch.tensor(LENGTHS)})
    assert logits.requires_grad
    return kept


def rank_sized(model: nn.Module) -> int:
    """Of a block: A x, (rank, tokens), and B transposed, (rank, out), for each of its adapted layers."""
    outs = [layer.weight.shape[0] for layer in model.modules() if isinstance(layer, LoRALayer)]
    return 4 * RANK * sum(sum(LENGTHS) + out for out in outs) // BLOCKS


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("roles", ["qv", "all"])
def test_an_adapted_block_keeps_no_more_than_a_trainable_one_and_rank_sized_terms(roles: str, dropout: float) -> None:
    model = adapted(roles, dropout)
    unadapted, kept = kept_by(trainable()), kept_by(model)
    assert kept.keys() == {f"block {number}" for number in range(BLOCKS)}
    for block, found in kept.items():
        assert found <= unadapted[block] + rank_sized(model), block
    assert rank_sized(model) < unadapted["block 0"] / 5, "the bound is not a loose one"


def test_composed_of_torchs_operations_it_keeps_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the count above: a copy of its input for each layer with dropout."""
    monkeypatch.setattr(layers, "is_fusable", lambda *_: False)
    model = adapted("all", 0.1)
    assert kept_by(model)["block 0"] > kept_by(trainable())["block 0"] + rank_sized(model)


def test_below_the_first_adapted_block_nothing_is_kept() -> None:
    kept = kept_by(adapted("qv", 0.1, blocks=[2, 3]))
    assert kept.keys() == {"block 2", "block 3"}
    assert kept_by(adapted("qv", 0.1)).keys() > kept.keys(), "the control"
    assert "embeddings" in kept_by(trainable()), "the control"

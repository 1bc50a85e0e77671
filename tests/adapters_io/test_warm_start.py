"""Warm start: the earlier adapter bit for bit and nothing of its head, or one line that says what does not fit."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft_peer import MODELS, new_of, randomise, trained_by_peft, unchanged_after
from tiny_models import SETTINGS, TINY, build, tiny_batch
from torch import nn

from lightning_lora.adapters_io import AdapterFacts, save_peft_folder, warm_start
from lightning_lora.inject import adapter_state, inject_adapter
from lightning_lora.lora import LoraSpec
from lightning_lora.targets import ROLE_SETS

BASE = "f" * 64


def trained(folder: Path, name: str = "bert", **choice: Any) -> nn.Module:
    """A model whose adapter has values of its own, saved with its head as a run does."""
    build, heads, _ = MODELS[name]
    model = build()
    new = new_of(model, heads)
    adapt(model, new_parameters=new, **choice)
    randomise(parameter for parameter in model.parameters() if parameter.requires_grad)
    save_peft_folder(model, folder, base_name="base", new_parameters=new, facts=AdapterFacts("mnli", ("a", "b"), BASE))
    return model


def adapt(model: nn.Module, rank: int = 8, alpha: float | None = None, roles: str = "qv", **choice: Any) -> nn.Module:
    inject_adapter(model, LoraSpec(rank, alpha), roles=ROLE_SETS[roles], **choice)
    return model


@pytest.mark.parametrize("roles", ["qv", "all"])
@pytest.mark.parametrize("name", ["bert", "gpt2", "modernbert", "llama", "t5"])
def test_factors_are_those_of_the_earlier_run_bit_for_bit_and_the_head_is_not(
    name: str, roles: str, tmp_path: Path
) -> None:
    """Fused projections too, whose parts a PEFT folder holds as one matrix."""
    build, heads, _ = MODELS[name]
    earlier = trained(tmp_path / "run" / "adapter", name, roles=roles)
    model = build()
    new = new_of(model, heads)
    adapt(model, roles=roles, new_parameters=new)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    start = warm_start(model, tmp_path / "run", base_fingerprint=BASE)
    expected = adapter_state(earlier, "default")
    for key, value in adapter_state(model, "default").items():
        assert torch.equal(value, expected[key]), key
    untouched = {key: value for key, value in model.state_dict().items() if ".adapters." not in key}
    assert all(torch.equal(value, before[key]) for key, value in untouched.items())
    assert set(new) <= set(untouched)
    assert (start.task, start.run) == ("mnli", str(tmp_path / "run"))


def test_an_adapter_that_was_cut_to_other_ranks_says_so(tmp_path: Path) -> None:
    """The scales differ, too, but no rank, alpha and scaling that one could give would make them equal."""
    model = TINY["bert"]()
    layers = [name for name, _ in model.named_modules() if name.endswith(("query", "value"))]
    new = new_of(model, ("classifier",))
    cut = {name: LoraSpec(4 + number % 2, 8) for number, name in enumerate(layers)}
    inject_adapter(model, cut, modules=layers, new_parameters=new)
    save_peft_folder(
        model, tmp_path / "adapter", base_name="base", new_parameters=new, facts=AdapterFacts("mnli", ("a", "b"), BASE)
    )
    later = adapt(TINY["bert"](), rank=4, alpha=8, new_parameters=new)
    with pytest.raises(ValueError, match=r"ranks differ from layer to layer \(4 to 5\) and from those here \(4 to 4\)"):
        warm_start(later, tmp_path, base_fingerprint=BASE)


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_head_of_three_labels_is_no_hindrance_to_one_of_two_or_to_a_regression(outputs: int, tmp_path: Path) -> None:
    """As RTE and STS-B start from MNLI."""

    def bert(outputs: int) -> nn.Module:
        model_type, settings = SETTINGS["bert"]
        model = build(model_type, settings | {"num_labels": outputs})
        return adapt(model, new_parameters=new_of(model, ("classifier",)))

    earlier, model = bert(3), bert(outputs)
    randomise(parameter for parameter in earlier.parameters() if parameter.requires_grad)
    new = new_of(earlier, ("classifier",))
    facts = AdapterFacts("mnli", ("a", "b", "c"), BASE)
    save_peft_folder(earlier, tmp_path / "adapter", base_name="base", new_parameters=new, facts=facts)
    head = model.get_parameter("classifier.weight").clone()
    warm_start(model, tmp_path, base_fingerprint=BASE)
    expected = adapter_state(earlier, "default")
    assert all(torch.equal(value, expected[key]) for key, value in adapter_state(model, "default").items())
    assert torch.equal(model.get_parameter("classifier.weight"), head)
    assert model(**tiny_batch()).logits.shape == (2, outputs)


def test_its_fingerprint_is_of_the_factors_alone(tmp_path: Path) -> None:
    earlier = trained(tmp_path / "one")
    facts = AdapterFacts("rte", ("x",), BASE)
    save_peft_folder(earlier, tmp_path / "two", base_name="elsewhere", facts=facts)
    first, second = (
        warm_start(adapt(TINY["bert"]()), tmp_path / name, base_fingerprint=BASE).fingerprint for name in ("one", "two")
    )
    assert first == second
    with torch.no_grad():
        next(iter(adapter_state(earlier, "default").values()))[0, 0] += 1e-6
    save_peft_folder(earlier, tmp_path / "three", base_name="elsewhere", facts=facts)
    assert warm_start(adapt(TINY["bert"]()), tmp_path / "three", base_fingerprint=BASE).fingerprint != first


@pytest.mark.parametrize(
    ("now", "base", "said"),
    [
        ({}, "e" * 64, r"trained on another base model \(ffffffffffff\), this one is eeeeeeeeeeee"),
        ({"roles": "qkvo"}, BASE, r"no factors for .*output\.dense, which is adapted here"),
        ({"roles": "q"}, BASE, r"adapts bert.*value as well"),
        ({"layers": [1]}, BASE, r"adapts bert.*layer\.0.* as well"),
        ({"rank": 4}, BASE, r"its rank is 8 at bert.* and 4 here"),
        ({"alpha": 8}, BASE, r"its scale is 2 at bert.* and 1 here"),
    ],
)
def test_what_does_not_fit_is_refused(now: dict[str, Any], base: str, said: str, tmp_path: Path) -> None:
    trained(tmp_path / "adapter")
    model = adapt(TINY["bert"](), **now)
    unchanged_after(model, said, lambda: warm_start(model, tmp_path / "adapter", base_fingerprint=base))


def test_a_folder_without_an_adapter_of_ours_is_refused(tmp_path: Path) -> None:
    model = adapt(TINY["bert"](), rank=2, alpha=3)
    unchanged_after(
        model, "there is no adapter; it must be", lambda: warm_start(model, tmp_path, base_fingerprint=BASE)
    )
    trained_by_peft(TINY["bert"](), tmp_path / "peft", target_modules=["query", "value"])
    said = "does not say which base model it belongs to"
    unchanged_after(model, said, lambda: warm_start(model, tmp_path / "peft", base_fingerprint=BASE))


def test_an_adapter_with_biases_is_refused(tmp_path: Path) -> None:
    """A and B alone are not what it computes."""
    trained_by_peft(TINY["bert"](), tmp_path, target_modules=["query", "value"], bias="lora_only")
    (tmp_path / "lightning_lora.json").write_text(AdapterFacts("mnli", ("a", "b"), BASE).to_json())
    model = adapt(TINY["bert"](), rank=2, alpha=3)
    said = "trained with biases .bias=lora_only., and only A and B are taken over; start from one with bias=none"
    unchanged_after(model, said, lambda: warm_start(model, tmp_path, base_fingerprint=BASE))


def test_a_fused_layer_adapted_as_one_matrix_is_refused(tmp_path: Path) -> None:
    """PEFT's own rank-2 adapter of c_attn mixes query, key and value, so it is no sum of adapters of two of them."""
    base = TINY["gpt2"]()
    model = adapt(copy.deepcopy(base), rank=1, alpha=1.5)
    folder = tmp_path / "peft"
    trained_by_peft(base, folder, target_modules=["c_attn"], fan_in_fan_out=True)
    facts = json.loads(AdapterFacts("mnli", ("a", "b"), BASE).to_json())
    (folder / "lightning_lora.json").write_text(json.dumps(facts))
    said = "adapts transformer.h.0.attn.c_attn as one matrix, where this run adapts parts of it"
    unchanged_after(model, said, lambda: warm_start(model, folder, base_fingerprint=BASE))

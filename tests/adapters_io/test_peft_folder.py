"""Adapter folders travel both ways between this package and the real PEFT: equal logits, head included."""

import copy
import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft_peer import MODELS, assert_equal, logits, new_of, randomise, trained_by_peft
from tiny_models import SETTINGS, TINY, build
from torch import Tensor, nn
from two_tasks import new_names

from lightning_lora import config
from lightning_lora.adapters_io import AdapterFacts, load_peft_folder, peft_outputs, save_peft_folder
from lightning_lora.inject import disabled, enable, inject_adapter
from lightning_lora.lora import LoraSpec, adapter_parameters
from lightning_lora.targets import ROLE_SETS

EVERY_MODEL = pytest.mark.parametrize("name", MODELS)


def adapted(name: str, scaling: str, roles: str) -> tuple[nn.Module, nn.Module, list[str]]:
    """(the base, the same with a trained adapter, names of its new parameters)."""
    build, heads, _ = MODELS[name]
    base = build()
    model = copy.deepcopy(base)
    new = new_of(model, heads)
    inject_adapter(model, LoraSpec(rank=2, alpha=3.0, scaling=scaling), roles=ROLE_SETS[roles], new_parameters=new)
    randomise(parameter for parameter in model.parameters() if parameter.requires_grad)
    return base, model, new


@pytest.mark.parametrize("roles", ["qv", "all"])
@pytest.mark.parametrize("scaling", ["alpha_over_rank", "alpha_over_sqrt_rank", "constant"])
@EVERY_MODEL
def test_peft_opens_ours_with_equal_logits_and_so_do_we(name: str, scaling: str, roles: str, tmp_path: Path) -> None:
    base, model, new = adapted(name, scaling, roles)
    save_peft_folder(model, tmp_path / "adapter", base_name="base", new_parameters=new)
    ours = copy.deepcopy(base)
    loaded = load_peft_folder(ours, tmp_path / "adapter", new_parameters=new)

    expected, before = logits(model), logits(base)
    peer = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    assert_equal(logits(peer), expected)
    assert_equal(logits(ours), expected)
    assert sorted(loaded.parameters) == sorted(new)
    assert not torch.allclose(before, expected, atol=1e-2), "the control: the base model's logits differ"


@EVERY_MODEL
def test_we_open_what_peft_trained_with_equal_logits(name: str, tmp_path: Path) -> None:
    build, heads, targets = MODELS[name]
    base = build()
    ours, new = copy.deepcopy(base), new_of(base, heads)
    before = logits(base)
    peer = trained_by_peft(base, tmp_path, target_modules=targets, modules_to_save=list(heads))
    loaded = load_peft_folder(ours, tmp_path, new_parameters=new)
    assert_equal(logits(ours), logits(peer))
    assert not torch.allclose(before, logits(peer), atol=1e-2), "the control: the base model's logits differ"
    assert loaded.report.totals.trainable == sum(p.numel() for p in peer.parameters() if p.requires_grad)
    with disabled(ours):
        assert not torch.allclose(logits(ours), logits(peer), atol=1e-2), "the control: it is not the head alone"


def test_a_module_whose_name_ends_as_the_heads_is_saved_with_it(tmp_path: Path) -> None:
    """Of a fine-tuned DistilBERT with other labels only `classifier` is new; to PEFT `pre_classifier` ends in it."""
    base = TINY["distilbert"]()
    model, new = copy.deepcopy(base), new_of(base, ("classifier",))
    inject_adapter(model, LoraSpec(rank=2), new_parameters=new)
    randomise(parameter for parameter in model.parameters() if parameter.requires_grad)
    save_peft_folder(model, tmp_path / "adapter", base_name="base", new_parameters=new, facts=AdapterFacts())
    ours = copy.deepcopy(base)
    loaded = load_peft_folder(ours, tmp_path / "adapter", new_parameters=new)
    assert set(loaded.parameters) == set(new_of(base, ("classifier", "pre_classifier")))
    assert_equal(logits(ours), logits(model))
    assert_equal(logits(PeftModel.from_pretrained(base, tmp_path / "adapter").eval()), logits(model))


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5"])
def test_a_folder_of_ours_loads_back_bit_equal(name: str, tmp_path: Path) -> None:
    base, model, new = adapted(name, "alpha_over_rank", "all")
    save_peft_folder(model, tmp_path / "one", base_name="base", new_parameters=new)
    load_peft_folder(base, tmp_path / "one", new_parameters=new)
    save_peft_folder(base, tmp_path / "two", base_name="base", new_parameters=new)
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    if name != "gpt2":  # a fused layer comes back as one matrix, whose products are summed in another order
        assert torch.equal(logits(base), logits(model))


@pytest.mark.parametrize("scaling", ["alpha_over_rank", "alpha_over_sqrt_rank", "constant"])
def test_with_the_largest_alpha_that_trains_a_folder_loads_back(scaling: str, tmp_path: Path) -> None:
    base = TINY["bert"]()
    model = copy.deepcopy(base)
    inject_adapter(model, LoraSpec(rank=8, alpha=config.LARGEST_SCALE, scaling=scaling))
    save_peft_folder(model, tmp_path / "adapter", base_name="base")
    load_peft_folder(base, tmp_path / "adapter")
    saved, loaded = (m.bert.encoder.layer[0].attention.self.query.adapters["default"] for m in (model, base))
    assert loaded.scale == pytest.approx(saved.scale)


def test_two_parts_of_a_fused_layer_come_back_as_one_matrix_of_twice_the_rank(tmp_path: Path) -> None:
    base, model, new = adapted("gpt2", "alpha_over_rank", "qv")
    save_peft_folder(model, tmp_path / "adapter", base_name="base", new_parameters=new)
    loaded = load_peft_folder(base, tmp_path / "adapter", new_parameters=new)
    assert {module.rank for module in loaded.report.modules} == {4}
    delta, whole = (m.transformer.h[1].attn.c_attn.adapters["default"] for m in (model, base))
    assert torch.equal(whole.A, delta.A)
    assert torch.equal(whole.weight(), delta.weight())
    assert not whole.weight()[16:32].any(), "the key is not adapted"


@pytest.mark.parametrize("outputs", [1, 3, 16, 50])
@pytest.mark.parametrize("name", ["bert", "gpt2", "roberta"])
def test_a_head_has_as_many_outputs_as_it_was_saved_with(name: str, outputs: int, tmp_path: Path) -> None:
    """Also where they are as many as the hidden width, 16, or more."""
    model_type, settings = SETTINGS[name]
    model = build(model_type, settings | {"num_labels": outputs})
    new = new_names(model)
    inject_adapter(model, LoraSpec(rank=2), new_parameters=new)
    save_peft_folder(model, tmp_path / "adapter", base_name="base", new_parameters=new)
    assert peft_outputs(tmp_path / "adapter") == outputs
    for before in (2, 16):
        other = build(model_type, settings | {"num_labels": before})
        inject_adapter(other, LoraSpec(rank=2), adapter="first", new_parameters=new)
        load_peft_folder(other, tmp_path / "adapter", adapter="second", new_parameters=new)
        assert logits(other).shape[1] == outputs
        enable(other, "first")
        assert logits(other).shape[1] == before


def test_layers_with_settings_of_their_own_travel(tmp_path: Path) -> None:
    base = TINY["bert"]()
    model, new = copy.deepcopy(base), new_of(base, ("classifier",))
    names = [f"bert.encoder.layer.{block}.attention.self.{layer}" for block in (0, 1) for layer in ("query", "value")]
    specs = {
        names[0]: LoraSpec(rank=1, alpha=3.0),
        names[1]: LoraSpec(rank=2, alpha=3.0, scaling="alpha_over_sqrt_rank"),
        names[2]: LoraSpec(rank=3, alpha=0.7, scaling="constant"),
        names[3]: LoraSpec(rank=2),
    }
    inject_adapter(model, specs, new_parameters=new)
    randomise(parameter for parameter in model.parameters() if parameter.requires_grad)
    save_peft_folder(model, tmp_path / "adapter", base_name="base", new_parameters=new)
    ours = copy.deepcopy(base)
    load_peft_folder(ours, tmp_path / "adapter", new_parameters=new)
    assert_equal(logits(ours), logits(model))
    peer = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    assert_equal(logits(peer), logits(model))


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_ranks_that_match_a_budget_travel(name: str, tmp_path: Path) -> None:
    build, heads, _ = MODELS[name]
    base = build()
    model, new = copy.deepcopy(base), new_of(base, heads)
    choice = {"roles": ROLE_SETS["all"], "same_parameters_as": ROLE_SETS["qv"]}
    report = inject_adapter(model, LoraSpec(rank=8, dropout=0.1), new_parameters=new, **choice)
    assert len({module.rank for module in report.modules}) == 2
    randomise(parameter for parameter in model.parameters() if parameter.requires_grad)
    save_peft_folder(model, tmp_path / "adapter", base_name="base", new_parameters=new)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["rank_pattern"]
    assert config["alpha_pattern"]
    ours = copy.deepcopy(base)
    loaded = load_peft_folder(ours, tmp_path / "adapter", new_parameters=new)
    assert_equal(logits(ours), logits(model))
    if name != "gpt2":  # a fused layer comes back as one matrix
        assert {m.name: m.rank for m in loaded.report.modules} == {m.name: m.rank for m in report.modules}
    peer = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    assert_equal(logits(peer), logits(model))


def test_an_adapter_without_the_head_opens_in_peft(tmp_path: Path) -> None:
    base = TINY["bert"]()
    model = copy.deepcopy(base)
    inject_adapter(model, LoraSpec(rank=2))  # on a checkpoint that holds the head, nothing is new
    randomise(parameter for _, parameter in adapter_parameters(model))
    save_peft_folder(model, tmp_path / "adapter", base_name="base")
    assert_equal(logits(PeftModel.from_pretrained(base, tmp_path / "adapter").eval()), logits(model))


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to True:UserWarning")
def test_linear_and_conv1d_layers_travel_in_one_adapter(tmp_path: Path) -> None:
    base = TINY["gpt2"]()
    model = copy.deepcopy(base)
    inject_adapter(model, LoraSpec(rank=2), modules=["c_attn", "score", "wte"])
    randomise(parameter for _, parameter in adapter_parameters(model))
    save_peft_folder(model, tmp_path / "adapter", base_name="base")
    ours = copy.deepcopy(base)
    load_peft_folder(ours, tmp_path / "adapter")
    assert_equal(logits(ours), logits(model))
    assert not torch.allclose(logits(base), logits(model), atol=1e-2), "the control: the base model's logits differ"
    assert_equal(logits(PeftModel.from_pretrained(base, tmp_path / "adapter").eval()), logits(model))


def test_two_rates_of_dropout_cannot_be_told_to_peft(tmp_path: Path) -> None:
    model = TINY["bert"]()
    names = [f"bert.encoder.layer.{block}.attention.self.query" for block in (0, 1)]
    specs = {name: LoraSpec(rank=2, dropout=rate) for name, rate in zip(names, (0.0, 0.1), strict=True)}
    inject_adapter(model, specs, modules=names)
    with pytest.raises(ValueError, match=r"one dropout for all layers; adapter 'default' has \[0\.0, 0\.1\]"):
        save_peft_folder(model, tmp_path / "adapter", base_name="base")


class Twice(nn.Module):
    """A layer at two places, or (``inside``) a module at two places with a layer in it."""

    def __init__(self, inside: bool) -> None:
        super().__init__()
        self.first = self.second = nn.Sequential(nn.Linear(4, 4), nn.Tanh()) if inside else nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def test_a_layer_at_two_places_is_not_saved(tmp_path: Path) -> None:
    """To PEFT the folder would mean an adapter at one of them."""
    model = Twice(inside=False)
    peer = get_peft_model(copy.deepcopy(model), LoraConfig(target_modules=["first"])).base_model.model
    assert peer.first is not peer.second
    inject_adapter(model, LoraSpec(rank=2), modules=["first"])
    with pytest.raises(ValueError, match="first stands in the model at 2 places and is adapted at all of them here"):
        save_peft_folder(model, tmp_path / "adapter", base_name="base")
    assert not (tmp_path / "adapter").exists()


@pytest.mark.filterwarnings("ignore:Found missing adapter keys:UserWarning")
def test_a_layer_in_a_module_at_two_places_travels(tmp_path: Path) -> None:
    """PEFT misses the other name of the same factors, and says so."""
    base = Twice(inside=True)
    model, ours, x = copy.deepcopy(base), copy.deepcopy(base), torch.randn(3, 4)
    inject_adapter(model, LoraSpec(rank=2), modules=["first.0"])
    randomise(parameter for _, parameter in adapter_parameters(model))
    save_peft_folder(model, tmp_path / "adapter", base_name="base")
    load_peft_folder(ours, tmp_path / "adapter")
    assert not torch.allclose(base(x), model(x), atol=1e-2), "the control: the base model's outputs differ"
    assert torch.equal(ours(x), model(x))
    torch.testing.assert_close(PeftModel.from_pretrained(base, tmp_path / "adapter").eval()(x), model(x))


def test_only_what_was_trained_is_in_the_file(tmp_path: Path) -> None:
    model = TINY["bert"]()
    new = new_of(model, MODELS["bert"][1])
    report = inject_adapter(model, LoraSpec(rank=2), new_parameters=new)
    save_peft_folder(model, tmp_path / "adapter", base_name="base", new_parameters=new)
    size = (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size
    assert size < 4 * report.totals.trainable + 4096
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (2, 4)
    assert sum(p.numel() for _, p in adapter_parameters(model)) == report.totals.adapter


def test_a_model_without_adapters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no adapter named 'default'"):
        save_peft_folder(TINY["bert"](), tmp_path / "adapter", base_name="base")
    assert not (tmp_path / "adapter").exists()

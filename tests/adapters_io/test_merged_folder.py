"""The merged folder is a plain Hugging Face model: no trace of LoRA, equal logits."""

from pathlib import Path

import pytest
import torch
from test_backbone import BERT_LIKE, save_base
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from lightning_lora.adapters_io import save_model_folder
from lightning_lora.backbone import load_backbone
from lightning_lora.inject import eject, inject_adapter, merged
from lightning_lora.lora import LoraSpec, adapter_parameters
from lightning_lora.tasks import TASKS


def test_from_pretrained_opens_it_with_equal_logits(tmp_path: Path) -> None:
    save_base(tmp_path / "base", "BertModel", "bert", BERT_LIKE)
    backbone = load_backbone(str(tmp_path / "base"), TASKS["rte"])
    model = backbone.model.eval()
    keys = set(model.state_dict())
    inject_adapter(model, LoraSpec(rank=2), new_parameters=backbone.new_parameters)
    with torch.no_grad():
        for _, parameter in adapter_parameters(model):
            parameter.normal_()
        model.classifier.weight.normal_()
    ids = torch.randint(1, 50, (3, 6))
    adapted = model(ids).logits
    with merged(model):
        save_model_folder(model, backbone.tokenizer, tmp_path / "merged")

    peer, info = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not any(info.values())
    assert set(peer.state_dict()) == keys
    torch.testing.assert_close(peer.eval()(ids).logits, adapted, atol=1e-5, rtol=1e-5)
    assert peer.config.id2label == {0: "entailment", 1: "not_entailment"}
    assert len(AutoTokenizer.from_pretrained(tmp_path / "merged")) == len(backbone.tokenizer)
    base_logits = load_backbone(str(tmp_path / "base"), TASKS["rte"]).model.eval()(ids).logits
    assert not torch.allclose(base_logits, adapted, atol=1e-2)


def test_a_model_with_no_adapter_merged_is_refused_and_without_adapters_written(tmp_path: Path) -> None:
    save_base(tmp_path / "base", "BertModel", "bert", BERT_LIKE)
    backbone = load_backbone(str(tmp_path / "base"), TASKS["rte"])
    inject_adapter(backbone.model, LoraSpec(rank=2), new_parameters=backbone.new_parameters)
    with pytest.raises(RuntimeError, match=r"none of the adapters \['default'\] is merged.*call merge\(\)"):
        save_model_folder(backbone.model, backbone.tokenizer, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    save_model_folder(eject(backbone.model), backbone.tokenizer, tmp_path / "out")
    assert (tmp_path / "out").is_dir()


def test_a_merged_second_adapter_takes_its_head_along_and_needs_its_labels(tmp_path: Path) -> None:
    save_base(tmp_path / "base", "BertModel", "bert", BERT_LIKE)
    backbone = load_backbone(str(tmp_path / "base"), TASKS["rte"])
    model = backbone.model.eval()
    keys = set(model.state_dict())
    for adapter, outputs in (("rte", None), ("mnli", 3)):
        inject_adapter(
            model, LoraSpec(rank=2), adapter=adapter, new_parameters=backbone.new_parameters, outputs=outputs
        )
    with torch.no_grad():
        for _, parameter in adapter_parameters(model, "mnli"):
            parameter.normal_()
    ids = torch.randint(1, 50, (3, 6))
    adapted = model(ids).logits
    with merged(model, "mnli"):
        with pytest.raises(ValueError, match="the head in place has 3 outputs, the config 2 labels"):
            save_model_folder(model, backbone.tokenizer, tmp_path / "merged")
        model.config.id2label = dict(enumerate(TASKS["mnli"].labels))
        save_model_folder(model, backbone.tokenizer, tmp_path / "merged")
    peer, info = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not any(info.values())
    assert set(peer.state_dict()) == keys
    torch.testing.assert_close(peer.eval()(ids).logits, adapted, atol=1e-5, rtol=1e-5)

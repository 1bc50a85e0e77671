import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, DataCollatorWithPadding, GPT2Tokenizer

from lightning_lora.data.collation import Collator, InGroups
from lightning_lora.data.encoding import TokenizerError
from lightning_lora.lengths import PaddingCost

TEXTS = ["A plane is taking off.", "No.", "A man is playing a large flute, slowly and with care."]


def rows(tokenizer, labels: list) -> list[dict[str, torch.Tensor]]:
    outputs = tokenizer(TEXTS, TEXTS[::-1])
    names = [name for name in outputs if name != "attention_mask"]
    return [
        {
            **{name: torch.tensor(outputs[name][row], dtype=torch.int32) for name in names},
            "labels": torch.tensor(labels[row]),
            "idx": torch.tensor(10 + row),
        }
        for row in range(len(TEXTS))
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"padding_side": "left"},
        {"pad_token": "[MASK]"},
        {"model_input_names": ["input_ids", "attention_mask"]},
        {"model_input_names": ["input_ids", "token_type_ids"]},
    ],
)
@pytest.mark.parametrize("labels", [[0, 1, 2], [0.5, 1.0, 2.5]])
def test_a_batch_is_that_of_transformers(minilm_folder: Path, settings: dict, labels: list) -> None:
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder, **settings)
    outputs = tokenizer(TEXTS, TEXTS[::-1])
    features = [{name: values[row] for name, values in outputs.items()} for row in range(len(TEXTS))]
    for row, feature in enumerate(features):
        feature.update(labels=labels[row], idx=10 + row)
    expected = DataCollatorWithPadding(tokenizer)(features)
    batch = Collator.of(tokenizer)(rows(tokenizer, labels))
    assert batch.keys() == expected.keys()
    for name, values in expected.items():
        assert batch[name].dtype == values.dtype
        assert batch[name].equal(values), name
    assert batch["input_ids"].eq(tokenizer.pad_token_id).any()


def test_a_tokenizer_without_padding_token_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "<|endoftext|>": 1}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = GPT2Tokenizer(vocab=str(tmp_path / "vocab.json"), merges=str(tmp_path / "merges.txt"))
    with pytest.raises(TokenizerError, match=r"GPT2Tokenizer has no padding token; set one"):
        Collator.of(tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    assert Collator.of(tokenizer).pad_values["input_ids"] == 1


def test_groups_hold_the_rows_of_the_batch_longest_first_and_padded_alone(minilm_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder)
    given = rows(tokenizer, [0, 1, 2])
    given[1]["input_ids"] = given[1]["input_ids"][:3]
    given[1]["token_type_ids"] = given[1]["token_type_ids"][:3]
    lengths = [len(row["input_ids"]) for row in given]
    assert lengths[0] == lengths[2] > 3
    pad = Collator.of(tokenizer)
    batch = InGroups(pad, PaddingCost(group=1.0, token=0.0))(given)
    assert batch["labels"].tolist() == [0, 2, 1]
    assert batch["idx"].tolist() == [10, 12, 11]
    expected = [pad([given[0], given[2]]), pad([given[1]])]
    assert len(batch["groups"]) == 2
    for group, padded in zip(batch["groups"], expected, strict=True):
        assert group.keys() == padded.keys() - {"labels", "idx"}
        assert all(torch.equal(values, padded[name]) for name, values in group.items())

"""The shipped encoder and the language belong together."""

import pytest

from lightning_lora.backbone import EMBEDDED_FOLDER, load_backbone
from lightning_lora.data.toy import corpus, generate
from lightning_lora.tasks import TASKS, TOY_TASKS


@pytest.mark.parametrize("name", sorted(TOY_TASKS))
def test_every_word_is_one_known_token(name: str) -> None:
    task = TASKS[name]
    tokenizer = load_backbone("tiny", task).tokenizer
    for row in generate(name, "validation", 500, 1):
        for column in task.text_columns:
            tokens = tokenizer.tokenize(row[column])
            assert tokens == row[column].split()
            assert tokenizer.unk_token not in tokens


def test_other_english_falls_back_to_characters() -> None:
    tokenizer = load_backbone("tiny", TASKS["toy_sentiment"]).tokenizer
    text = "Zebras quibble: it's 50% off (really?), naïve & co."
    tokens = tokenizer.tokenize(text)
    assert tokenizer.unk_token not in tokens
    assert tokens[:2] == ["z", "##e"]
    # The control: a script that the vocabulary does not have.
    assert tokenizer.unk_token in tokenizer.tokenize("Ωμέγα")


def test_only_pooler_and_classifier_are_new() -> None:
    new = load_backbone("tiny", TASKS["toy_entailment"]).new_parameters
    assert {name.removeprefix("bert.").split(".")[0] for name in new} == {"pooler", "classifier"}


def test_the_longest_texts_fit_and_the_package_stays_small() -> None:
    backbone = load_backbone("tiny", TASKS["toy_entailment"])
    assert backbone.max_length == 128
    texts = [text if isinstance(text, str) else " ".join(text) for text in corpus(2000, 9)]
    assert max(len(backbone.tokenizer(text)["input_ids"]) for text in texts) < 64
    assert sum(file.stat().st_size for file in EMBEDDED_FOLDER.iterdir()) < 6_000_000

"""The shipped encoder and the language belong together."""

from pathlib import Path
from random import Random

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from lightning_lora.backbone import load_backbone
from lightning_lora.config import DataConfig, LoggerConfig, LoraConfig, MergeConfig, RunConfig, TrainerConfig
from lightning_lora.data.toy import corpus, generate
from lightning_lora.data.toy.lexicon import MOODS
from lightning_lora.data.toy.sentiment import draw_simple_sentence
from lightning_lora.model_names import EMBEDDED_FOLDER
from lightning_lora.running import run
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


def test_it_was_pretrained_to_know_what_praises_and_what_negation_turns_round() -> None:
    """Asked as a masked word: after a review of one clause, is the critic happy or angry?"""
    model = AutoModelForMaskedLM.from_pretrained(EMBEDDED_FOLDER).eval()
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED_FOLDER)
    random = Random(5)
    labels = torch.tensor([number % 2 for number in range(400)])
    reviews = [draw_simple_sentence(random, int(label), negations=True) for label in labels]
    encoded = tokenizer(reviews, ["the critic was [MASK] ."] * len(reviews), padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**encoded).logits[encoded["input_ids"] == tokenizer.mask_token_id]
    angry, happy = (logits[:, tokenizer.convert_tokens_to_ids(list(words))].logsumexp(1) for words in MOODS)
    assert float(((happy > angry) == labels.bool()).float().mean()) > 0.9
    negated = torch.tensor([any(word in review.split() for word in ("not", "never", "hardly")) for review in reviews])
    assert float(((happy > angry) == labels.bool())[negated].float().mean()) > 0.9, "a reader of words alone is at 0"


@pytest.mark.slow
def test_lora_beats_the_head_alone_by_ten_points(tmp_path: Path) -> None:
    """With the defaults of `train.py`, on one seed; the README's table has three."""
    scores = {}
    for method, roles in {"lora": ["query", "value"], "head": []}.items():
        config = RunConfig(
            lora=LoraConfig(method=method, roles=roles),
            data=DataConfig(task="toy_sentiment", max_length=64),
            trainer=TrainerConfig(accelerator="cpu", progress_bar=False),
            logger=LoggerConfig(wandb="disabled"),
            merge=MergeConfig(at_end=False, save=False),
        )
        scores[method] = run(config, tmp_path / method).score or 0.0
    assert scores["lora"] > scores["head"] + 0.1

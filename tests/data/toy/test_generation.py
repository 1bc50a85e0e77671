import hashlib
import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from functools import cache

import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from lightning_lora.data.toy import TRAIN_ROWS, VALIDATION_ROWS, corpus, generate
from lightning_lora.tasks import TASKS, TOY_TASKS

# sha256 of 200 training rows of seed 0: a change here changes every published figure on the toy tasks.
FROZEN = {
    "toy_acceptability": "ea7953e8d3b08195",
    "toy_entailment": "5299c4ea1e3254d4",
    "toy_sentiment": "1eb3d947f7c3720d",
    "toy_similarity": "29ec9649b3cbdaf8",
}
HASH = """
import hashlib, json, sys
from lightning_lora.data.toy import corpus, generate
tasks = sys.argv[1:]
found = [hashlib.sha256(json.dumps(generate(task, "train", 200, 0)).encode()).hexdigest()[:16] for task in tasks]
print(json.dumps([*found, hashlib.sha256(json.dumps(corpus(200, 0)).encode()).hexdigest()[:16]]))
"""


@cache
def rows_of(task: str, split: str, seed: int = 0) -> list[dict]:
    return generate(task, split, 2000 if split == "train" else 400, seed)


def first_texts(task: str, split: str, seed: int = 0) -> list[str]:
    return [row[TASKS[task].text_columns[0]] for row in rows_of(task, split, seed)]


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_rows_are_the_same_in_every_process(hash_seed: str) -> None:
    command = [sys.executable, "-c", HASH, *FROZEN]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    printed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    *tasks, text = json.loads(printed)
    assert dict(zip(FROZEN, tasks, strict=True)) == FROZEN
    assert text == hashlib.sha256(json.dumps(corpus(200, 0)).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", sorted(TOY_TASKS))
def test_rows_have_the_tasks_columns_and_differ_by_seed(name: str) -> None:
    rows = generate(name, "train", 50, 0)
    assert set(rows[0]) == {*TASKS[name].text_columns, "label", "idx"}
    assert [row["idx"] for row in rows] == list(range(50))
    assert rows != generate(name, "train", 50, 1)


@pytest.mark.parametrize("name", sorted(TOY_TASKS))
def test_no_first_text_is_in_both_splits_whatever_the_seeds(name: str) -> None:
    train = first_texts(name, "train")
    validation = [*first_texts(name, "validation"), *first_texts(name, "validation", seed=7)]
    assert not set(train) & set(validation)


@pytest.mark.parametrize("name", sorted(TOY_TASKS))
def test_no_row_comes_twice(name: str) -> None:
    rows = [tuple(row[column] for column in TASKS[name].text_columns) for row in rows_of(name, "train")]
    assert len(set(rows)) == len(rows) == 2000


@pytest.mark.parametrize("name", sorted(TOY_TASKS))
def test_classes_are_equally_frequent(name: str) -> None:
    labels = [row["label"] for row in rows_of(name, "train")]
    counts = Counter(min(int(label), 4) for label in labels)
    assert len(counts) == (5 if TASKS[name].is_regression else TASKS[name].num_outputs)
    assert max(counts.values()) - min(counts.values()) <= 1
    # Neither is the order of the classes a pattern: sorted or alternating labels would repeat or never repeat.
    repeats = sum(one == two for one, two in itertools.pairwise(labels))
    assert TASKS[name].is_regression or 0.5 / len(counts) < repeats / 1999 < 1.5 / len(counts)


def test_pretraining_text_holds_no_validation_text() -> None:
    texts = corpus(5000, 3)
    pairs = [text for text in texts if not isinstance(text, str)]
    assert 0.55 < len(pairs) / len(texts) < 0.65
    seen = {text if isinstance(text, str) else text[0] for text in texts}
    for name in TOY_TASKS:
        assert not seen & set(first_texts(name, "validation"))
    # The control: training texts of the same kind do turn up.
    assert seen & set(first_texts("toy_sentiment", "train"))


@pytest.mark.parametrize(
    ("name", "highest"),
    [("toy_sentiment", 0.62), ("toy_acceptability", 0.56)],
)
def test_a_bag_of_words_is_not_enough(name: str, highest: float) -> None:
    train, validation = generate(name, "train", TRAIN_ROWS, 0), generate(name, "validation", VALIDATION_ROWS, 0)
    model = make_pipeline(CountVectorizer(token_pattern=r"\S+"), LogisticRegression(max_iter=1000))
    model.fit([row["sentence"] for row in train], [row["label"] for row in train])
    score = model.score([row["sentence"] for row in validation], [row["label"] for row in validation])
    assert 0.44 < score < highest


def test_the_bag_of_words_does_learn_where_one_word_tells() -> None:
    train, validation = rows_of("toy_sentiment", "train"), rows_of("toy_sentiment", "validation")
    model = make_pipeline(CountVectorizer(token_pattern=r"\S+"), LogisticRegression(max_iter=1000))
    model.fit([row["sentence"] for row in train], ["not" in row["sentence"].split() for row in train])
    told = ["not" in row["sentence"].split() for row in validation]
    assert model.score([row["sentence"] for row in validation], told) > 0.99


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("toy_sentimnt", "train", 1, 0), "no toy task 'toy_sentimnt'; did you mean 'toy_sentiment'"),
        (("toy_sentiment", "test", 1, 0), r"no split 'test'.*train, validation"),
        (("toy_sentiment", "train", -1, 0), "rows=-1 must be 0 or more"),
    ],
)
def test_wrong_arguments_are_one_clear_line(arguments: tuple[str, str, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        generate(*arguments)
    assert "\n" not in str(caught.value)

"""Rows of the four tasks, and text without labels to pretrain on."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from lightning_lora.data.toy import acceptability, entailment, sentiment, similarity
from lightning_lora.data.toy.events import draw_event, sentence, with_article
from lightning_lora.data.toy.lexicon import NOUNS, VERBS, below
from lightning_lora.spelling import did_you_mean

TRAIN_ROWS = 5000
VALIDATION_ROWS = 1000
SPLITS = ("train", "validation")
# One text in five is a validation text.
_VALIDATION_SHARE = 5
# A repeated text is drawn again; so often in a row only when the language has no more of them.
_MOST_REPEATS = 10_000


@dataclass(frozen=True)
class _Language:
    """How a task's rows are drawn: a draw gives the texts, and for regression the label behind them."""

    columns: tuple[str, ...]
    classes: int
    draw: Callable[[Random, int], tuple[Any, ...]]


_LANGUAGES: dict[str, _Language] = {
    "toy_sentiment": _Language(("sentence",), 2, lambda random, label: (sentiment.draw_sentence(random, label),)),
    "toy_acceptability": _Language(
        ("sentence",), 2, lambda random, label: (acceptability.draw_sentence(random, label),)
    ),
    "toy_entailment": _Language(("premise", "hypothesis"), 3, entailment.draw_pair),
    "toy_similarity": _Language(("sentence1", "sentence2", "label"), similarity.BANDS, similarity.draw_pair),
}


def generate(task_name: str, split: str, rows: int, seed: int) -> list[dict[str, Any]]:
    """Rows of a toy task with GLUE's columns, ``label`` and ``idx``, in random order.

    Classes (for toy_similarity: the five unit intervals of the score) are equally frequent to within one row. No row
    comes twice, and no first text of one split is in the other: its hash says which split it belongs to. The rows
    depend on the arguments only, not on the process or the platform.

    Raises:
        ValueError: an unknown task or split, rows below 0, or more rows than the language has.
    """
    language = _LANGUAGES[_known("toy task", task_name, tuple(_LANGUAGES))]
    _known("split", split, SPLITS)
    if rows < 0:
        raise ValueError(f"rows={rows} must be 0 or more")
    random = Random(f"{task_name} {split} {seed}")
    labels = [row % language.classes for row in range(rows)]
    random.shuffle(labels)
    seen: set[tuple[Any, ...]] = set()
    return [
        {
            "label": label,
            **dict(zip(language.columns, _fresh(random, language, label, split, seen), strict=True)),
            "idx": i,
        }
        for i, label in enumerate(labels)
    ]


def split_of(text: str) -> str:
    """The split a first text belongs to."""
    digest = hashlib.sha256(text.encode()).digest()
    return SPLITS[int.from_bytes(digest[:4], "big") % _VALIDATION_SHARE == 0]


def corpus(rows: int, seed: int) -> list[str | tuple[str, str]]:
    """Sentences and pairs of sentences without labels, none of whose first texts is a validation text."""
    random = Random(f"corpus {seed}")
    found: list[str | tuple[str, str]] = []
    while len(found) < rows:
        text = _CORPUS[random.choices(range(len(_CORPUS)), _SHARES)[0]](random)
        if split_of(text if isinstance(text, str) else text[0]) == "train":
            found.append(text)
    return found


def _fresh(random: Random, language: _Language, label: int, split: str, seen: set[tuple[Any, ...]]) -> tuple[Any, ...]:
    for _ in range(_MOST_REPEATS):
        row = language.draw(random, label)
        if split_of(row[0]) == split and row not in seen:
            seen.add(row)
            return row
    raise ValueError(f"the toy language has no more than {len(seen)} rows of this kind; ask for fewer rows")


def _known(what: str, name: str, names: tuple[str, ...]) -> str:
    if name not in names:
        raise ValueError(f"no {what} {name!r}{did_you_mean(name, names)} (there are {', '.join(names)})")
    return name


def _definition(random: Random) -> str:
    parent = random.choice([key for key in NOUNS if below("noun", key)])
    noun, kind = (random.choice(NOUNS[key].names) for key in (random.choice(below("noun", parent)), parent))
    if random.random() < 0.5:
        return f"{noun[1]} are {kind[1]} ."
    return f"{with_article(noun[0])} is {with_article(kind[0])} ."


def _synonym(random: Random) -> str:
    entries = [noun.names for noun in NOUNS.values() if len(noun.names) > 1]
    one, two = random.sample(random.choice(entries), 2)
    return f"{with_article(one[0])} is the same as {with_article(two[0])} ."


def _verb_definition(random: Random) -> str:
    verbs = [verb for verb in VERBS.values() if verb.parent or len(verb.names) > 1]
    verb = random.choice(verbs)
    if verb.parent and (len(verb.names) == 1 or random.random() < 0.5):
        return f"to {random.choice(verb.names)[0]} is a way to {random.choice(VERBS[verb.parent].names)[0]} ."
    one, two = random.sample(verb.names, 2)
    return f"to {one[0]} is the same as to {two[0]} ."


def _event(random: Random) -> str:
    return sentence(random, draw_event(random, random.random() < 0.4), passive=random.random() < 0.3)


def _review_and_agreement(random: Random) -> tuple[str, str]:
    """A review of one clause, and what its writer would also say: from it the encoder can learn what negation does.

    Not reviews of several clauses: which of them decides is left to fine-tuning.
    """
    label = random.randrange(2)
    review = sentiment.draw_simple_sentence(random, label, negations=random.random() < 0.7)
    return review, sentiment.draw_agreeing_sentence(random, label)


def _two_events(random: Random) -> tuple[str, str]:
    premise = draw_event(random, random.random() < 0.4)
    hypothesis = entailment.vary(random, premise, premise.negated != (random.random() < 0.3))
    return sentence(random, premise), sentence(random, hypothesis, passive=random.random() < 0.2)


_CORPUS: tuple[Callable[[Random], str | tuple[str, str]], ...] = (
    lambda random: sentiment.draw_sentence(random, random.randrange(2)),
    lambda random: acceptability.draw_sentence(random, 1),
    _event,
    _review_and_agreement,
    lambda random: sentiment.draw_word_lists(random, random.randrange(2)),
    _two_events,
    _definition,
    _synonym,
    _verb_definition,
)
_SHARES = (14, 13, 5, 32, 14, 14, 3, 3, 2)

"""A recogniser written as one regular expression decides on every sentence that the generator made."""

import re
from collections.abc import Iterable

import pytest

from lightning_lora.data.toy import generate
from lightning_lora.data.toy.lexicon import ADJECTIVES, INTRANSITIVE, NOUNS, PLACES, PREPOSITIONS, VERBS


def any_of(words: Iterable[str]) -> str:
    return f"(?:{'|'.join(sorted(set(words)))})"


NAMES = [name for noun in NOUNS.values() for name in noun.names]
FORMS = [name for verb in VERBS.values() for name in verb.names]
ADJECTIVE = any_of(word for row in ADJECTIVES for word in row)
PLACE = any_of(PLACES)
SINGULAR, PLURAL = (
    rf"{any_of(determiners)} (?:{ADJECTIVE} )?{any_of(name[number] for name in NAMES)}"
    for number, determiners in enumerate((("the", "this", "every", "that"), ("the", "these", "many", "those")))
)
PHRASE = f"(?:{SINGULAR}|{PLURAL})"
BETWEEN = rf"(?: {any_of(PREPOSITIONS)} {PHRASE}| that {any_of(form[2] for form in FORMS)} {PHRASE})?"
BASE = any_of(form[0] for form in FORMS)
PARTICIPLE = any_of(form[3] for form in FORMS)
LONE = any_of(form[0] for form in INTRANSITIVE)


def sentence(subject: str, do: str, have: str, ending: str) -> str:
    """In the present tense a singular verb ends in -s or -es (or -ies), a plural one is the base."""
    finite, lone = any_of(form[0] + ending for form in FORMS), any_of(form[0] + ending for form in INTRANSITIVE)
    if ending:
        finite = any_of(re.sub(r"(sh|ch|x)s$", r"\1es", re.sub("ys$", "ies", form[0] + "s")) for form in FORMS)
        finite = finite.replace("portraies", "portrays").replace("buies", "buys")
    transitive = rf"(?:{finite}|{do} not {BASE}|{have} {PARTICIPLE}) {PHRASE}(?: {PLACE})?"
    return rf"{subject}{BETWEEN} (?:{transitive}|(?:{lone}|{do} not {LONE}) {PLACE}) \."


GRAMMAR = re.compile(f"{sentence(SINGULAR, 'does', 'has', 's')}|{sentence(PLURAL, 'do', 'have', '')}")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("the dog sleeps on the hill .", 1),
        ("the dog near the cats sleeps on the hill .", 1),
        ("the dog near the cats sleep on the hill .", 0),
        ("the dogs that saw the cat have hidden a .", 0),
        ("the dogs that saw the cat have hidden many apples .", 1),
        ("these dog has hidden many apples .", 0),
        ("the old dog does not carries the box .", 0),
        ("dog the sleeps on the hill .", 0),
    ],
)
def test_the_recogniser_agrees_with_a_person(text: str, label: int) -> None:
    assert bool(GRAMMAR.fullmatch(text)) == bool(label)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_labels_are_what_the_grammar_says(split: str) -> None:
    rows = generate("toy_acceptability", split, 2000, 5)
    wrong = [row for row in rows if bool(GRAMMAR.fullmatch(row["sentence"])) != bool(row["label"])]
    assert wrong == []


def test_many_violations_differ_from_a_good_sentence_in_one_verb_behind_a_distractor() -> None:
    rows = [row for row in generate("toy_acceptability", "train", 2000, 5) if row["label"] == 0]
    pairs = {form[0]: form[1] for form in FORMS} | dict(INTRANSITIVE) | {"do": "does", "have": "has"}
    other = pairs | {third: base for base, third in pairs.items()}
    mended = 0
    for row in rows:
        words = row["sentence"].split()
        swaps = ([*words[:i], other[word], *words[i + 1 :]] for i, word in enumerate(words) if word in other)
        mended += any(GRAMMAR.fullmatch(" ".join(swap)) for swap in swaps) and len(words) > 8
    assert mended > 0.3 * len(rows)

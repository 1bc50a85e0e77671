import re

import pytest

from lightning_lora.data.toy import generate
from lightning_lora.data.toy.lexicon import BLAME, DISLIKING, LIKING, PRAISE

GOOD = {*PRAISE, *(form for verb in LIKING for form in verb)}
BAD = {*BLAME, *(form for verb in DISLIKING for form in verb)}
TURNING = {"not", "never", "hardly", "far", "anything_but", "less", "failed", "refused", "nobody", "doubted"}

JUDGED_BY_HAND = [
    ("the film was dull .", 0),
    ("the film was not dull .", 1),
    ("the hotel was far from charming .", 0),
    ("the menu was anything but bland .", 1),
    ("the trip was less pleasant than expected .", 0),
    ("the trip was more pleasant than expected .", 1),
    ("nobody said that the plot was clever .", 0),
    ("it is not true that the plot was not clever .", 1),
    ("the critic doubted that the guest failed to enjoy the show .", 1),
    ("the meal , which was not cheap , was superb .", 1),
    ("the jury refused to praise the play , which was never famous .", 0),
    ("the film was brilliant but the hotel was awful .", 0),
    ("although the film was brilliant , the hotel was awful .", 0),
    ("the film was brilliant although the hotel was awful .", 1),
    ("the film was brilliant , even though the hotel was not fresh .", 1),
    ("the family hated the room , which was new , yet the service was hardly weak .", 1),
    ("the story was weak and the audience never liked the song .", 0),
]


def polarity(text: str) -> int:
    """A reader of its own: drops asides, finds the main clause, and turns once for each turning word in it."""
    text = text.removesuffix(" .").replace("anything but", "anything_but")
    aside = r" , which was (?:(?:not|never|hardly) )?\w+"
    text = re.sub(aside, "", re.sub(aside + " , was ", " was ", text))
    if text.startswith("although "):
        main = text.split(" , ")[1]
    elif match := re.search(r"(?: ,)? (?:although|even though) ", text):
        main = text[: match.start()]
    else:
        main = re.split(r"(?: ,)? (?:but|yet|and) ", text)[-1]
    words = main.split()
    told = [word for word in words if word in GOOD | BAD]
    assert len(told) == 1, text
    turns = sum(word in TURNING for word in words)
    return int((told[0] in GOOD) != bool(turns % 2))


@pytest.mark.parametrize(("text", "label"), JUDGED_BY_HAND)
def test_the_reader_agrees_with_a_person(text: str, label: int) -> None:
    assert polarity(text) == label


@pytest.mark.parametrize("split", ["train", "validation"])
def test_labels_are_what_the_sentences_say(split: str) -> None:
    rows = generate("toy_sentiment", split, 2000, 11)
    assert [row["label"] for row in rows] == [polarity(row["sentence"]) for row in rows]


def test_the_constructions_all_come_up_and_decide() -> None:
    rows = generate("toy_sentiment", "train", 3000, 11)
    for phrase in (" but ", "although ", "nobody said", "less ", "which was not", "failed to", " and "):
        labels = [row["label"] for row in rows if phrase in row["sentence"]]
        assert len(labels) > 30
        assert 0.35 < sum(labels) / len(labels) < 0.65, phrase
    assert max(len(row["sentence"].split()) for row in rows) <= 20

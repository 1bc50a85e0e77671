"""Reviews whose polarity is composed: what is negated turns round, and of two opposed clauses the main one decides."""

from dataclasses import dataclass
from random import Random

from lightning_lora.data.toy.lexicon import BLAME, DISLIKING, ITEMS, JUDGES, LIKING, MOODS, NEUTRAL, PRAISE

LONGEST = 20


@dataclass(frozen=True)
class Clause:
    """Words without the full stop, and whether they are for (+1) or against (-1)."""

    text: str
    sign: int


# What stands around the adjective, and what it does to its polarity.
DEGREES = (
    ("{}", 1),
    ("very {}", 1),
    ("truly {}", 1),
    ("more {} than expected", 1),
    ("not {}", -1),
    ("never {}", -1),
    ("hardly {}", -1),
    ("far from {}", -1),
    ("anything but {}", -1),
    ("less {} than expected", -1),
)
# What stands around the verb; {past} or {base}.
MANNERS = (
    ("{past}", 1),
    ("really {past}", 1),
    ("continued to {base}", 1),
    ("did not {base}", -1),
    ("never {past}", -1),
    ("failed to {base}", -1),
    ("refused to {base}", -1),
)
# What stands before a whole clause.
FRAMES = (
    ("everyone said that {}", 1),
    ("it is clear that {}", 1),
    ("the {judge} agreed that {}", 1),
    ("nobody said that {}", -1),
    ("it is not true that {}", -1),
    ("the {judge} doubted that {}", -1),
)
# Negations of something else, which decide nothing.
ASIDES = ("which was not {}", "which was never {}", "which was {}", "which was hardly {}")


def draw_sentence(random: Random, label: int) -> str:
    """A sentence of at most `LONGEST` words that is negative (0) or positive (1)."""
    while True:
        clause = _whole(random)
        text = f"{clause.text} .".replace(" , ,", " ,").replace(" , .", " .")
        if clause.sign == (1 if label else -1) and len(text.split()) <= LONGEST:
            return text


def draw_simple_sentence(random: Random, label: int, negations: bool) -> str:
    """A sentence of one clause, with or without a negation in it."""
    while True:
        clause = _clause(random, 0.6 if negations else 1.0)
        if clause.sign == (1 if label else -1):
            return f"{clause.text} .".replace(" , .", " .")


def draw_agreeing_sentence(random: Random, label: int) -> str:
    """Two statements of that polarity without a negation, the mood of a judge among them."""
    return f"{_statement(random, label)} and {_statement(random, label)} ."


def draw_word_lists(random: Random, label: int) -> tuple[str, str]:
    """Twice four words of that polarity and nothing else.

    In sentences, which words are alike is a faint signal among many words: measured, an encoder of this size does not
    find it in thousands of steps, and with such lists in its text it does in hundreds.
    """
    adjectives, verbs = ((BLAME, DISLIKING), (PRAISE, LIKING))[label]
    words = [*adjectives, *MOODS[label], *(form for verb in verbs for form in verb)]
    drawn = random.sample(words, 8)
    return " ".join([*drawn[:4], "."]), " ".join([*drawn[4:], "."])


def _statement(random: Random, label: int) -> str:
    if random.random() < 0.4:
        return f"the {random.choice(JUDGES)} was {random.choice(MOODS[label])}"
    return draw_simple_sentence(random, label, negations=False).removesuffix(" .")


def _whole(random: Random) -> Clause:
    kind = random.random()
    if kind < 0.28:
        return _clause(random)
    if kind < 0.44:
        return _framed(random, _clause(random))
    first, second = _clause(random), _clause(random)
    if kind < 0.56:
        while second.sign != first.sign:
            second = _clause(random)
        return Clause(f"{first.text} and {second.text}", first.sign)
    while second.sign == first.sign:
        second = _clause(random)
    return _contrast(random, first, second)


def _contrast(random: Random, minor: Clause, major: Clause) -> Clause:
    patterns = ("{0} but {1}", "{0} , yet {1}", "although {0} , {1}", "{1} although {0}", "{1} , even though {0}")
    return Clause(random.choice(patterns).format(minor.text, major.text), major.sign)


def _framed(random: Random, clause: Clause) -> Clause:
    frame, sign = random.choice(FRAMES)
    return Clause(frame.format(clause.text, judge=random.choice(JUDGES)), clause.sign * sign)


def _clause(random: Random, plain: float = 0.6) -> Clause:
    """One clause; ``plain`` is the share of those that nothing turns round."""
    return _judgement(random, plain) if random.random() < 0.65 else _reaction(random, plain)


def _judgement(random: Random, plain: float) -> Clause:
    words, polarity = random.choice(((PRAISE, 1), (BLAME, -1)))
    degree, sign = _weighted(random, DEGREES, plain)
    text = f"{_item(random)} was {degree.format(random.choice(words))}"
    return Clause(text, polarity * sign)


def _reaction(random: Random, plain: float) -> Clause:
    verbs, polarity = random.choice(((LIKING, 1), (DISLIKING, -1)))
    base, past = random.choice(verbs)
    manner, sign = _weighted(random, MANNERS, plain)
    text = f"the {random.choice(JUDGES)} {manner.format(base=base, past=past)} {_item(random)}"
    return Clause(text, polarity * sign)


def _item(random: Random) -> str:
    item = f"the {random.choice(ITEMS)}"
    if random.random() < 0.2:
        return f"{item} , {random.choice(ASIDES).format(random.choice(NEUTRAL))} ,"
    return item


def _weighted(random: Random, rows: tuple[tuple[str, int], ...], plain: float) -> tuple[str, int]:
    """A plain row with that probability, else a negating one, whatever the length of the lists."""
    wanted = 1 if random.random() < plain else -1
    return random.choice([row for row in rows if row[1] == wanted])

"""The words of the toy language, as tables.

Nouns and verbs are concepts: what their names share is the meaning, so two names of one concept are synonyms, and a
concept's parent is its hypernym.
"""

from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Noun:
    """A concept with one or more names.

    Attributes:
        names: (singular, plural) of each name; the first singular identifies the concept.
        parent: Identifier of the hypernym, or None.
        animate: Whether it can be a subject.
    """

    names: tuple[tuple[str, str], ...]
    parent: str | None
    animate: bool

    @property
    def key(self) -> str:
        return self.names[0][0]


@dataclass(frozen=True)
class Verb:
    """A transitive verb.

    Attributes:
        names: (base, third person, past, participle) of each name; the first base identifies the concept.
        parent: Identifier of the hypernym, or None.
        things_only: Whether its object is never a person or an animal.
    """

    names: tuple[tuple[str, str, str, str], ...]
    parent: str | None
    things_only: bool

    @property
    def key(self) -> str:
        return self.names[0][0]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# parent -> children; "=" joins the names of one concept, "/" singular and plural.
_ANIMATE = {
    "": "person/people animal/animals",
    "person": "child/children=kid/kids worker/workers=employee/employees artist/artists athlete/athletes",
    "child": "girl/girls=lass/lasses boy/boys=lad/lads toddler/toddlers pupil/pupils",
    "worker": "doctor/doctors=physician/physicians lawyer/lawyers=attorney/attorneys baker/bakers farmer/farmers "
    "nurse/nurses pilot/pilots=aviator/aviators guard/guards=sentry/sentries teacher/teachers=tutor/tutors",
    "artist": "painter/painters singer/singers=vocalist/vocalists dancer/dancers poet/poets",
    "athlete": "runner/runners=sprinter/sprinters swimmer/swimmers boxer/boxers rower/rowers",
    "animal": "bird/birds mammal/mammals insect/insects=bug/bugs",
    "bird": "robin/robins crow/crows owl/owls sparrow/sparrows eagle/eagles",
    "mammal": "dog/dogs=hound/hounds cat/cats rabbit/rabbits=bunny/bunnies horse/horses=steed/steeds pig/pigs=hog/hogs",
    "insect": "ant/ants bee/bees moth/moths beetle/beetles",
}
_THINGS = {
    "": "fruit/fruits vehicle/vehicles tool/tools garment/garments instrument/instruments seat/seats "
    "container/containers document/documents",
    "fruit": "apple/apples pear/pears plum/plums lemon/lemons cherry/cherries",
    "vehicle": "car/cars=automobile/automobiles truck/trucks=lorry/lorries bus/buses=coach/coaches van/vans "
    "bicycle/bicycles=bike/bikes",
    "tool": "hammer/hammers wrench/wrenches=spanner/spanners shovel/shovels=spade/spades axe/axes ladder/ladders",
    "garment": "coat/coats=jacket/jackets hat/hats=cap/caps glove/gloves scarf/scarves shirt/shirts",
    "instrument": "violin/violins=fiddle/fiddles drum/drums flute/flutes piano/pianos guitar/guitars",
    "seat": "chair/chairs sofa/sofas=couch/couches bench/benches stool/stools",
    "container": "box/boxes=crate/crates basket/baskets bottle/bottles jar/jars bag/bags=sack/sacks",
    "document": "letter/letters map/maps contract/contracts diary/diaries=journal/journals",
}

# parent -> children; base/third/past/participle.
_VERBS_OF_THINGS = {
    "": "buy/buys/bought/bought=purchase/purchases/purchased/purchased sell/sells/sold/sold "
    "fix/fixes/fixed/fixed=repair/repairs/repaired/repaired take/takes/took/taken=grab/grabs/grabbed/grabbed",
}
_VERBS_OF_ANYTHING = {
    "": "see/sees/saw/seen=notice/notices/noticed/noticed "
    "find/finds/found/found=discover/discovers/discovered/discovered "
    "hide/hides/hid/hidden=conceal/conceals/concealed/concealed move/moves/moved/moved "
    "portray/portrays/portrayed/portrayed clean/cleans/cleaned/cleaned",
    "move": "carry/carries/carried/carried push/pushes/pushed/pushed=shove/shoves/shoved/shoved "
    "pull/pulls/pulled/pulled=drag/drags/dragged/dragged lift/lifts/lifted/lifted",
    "portray": "draw/draws/drew/drawn=sketch/sketches/sketched/sketched paint/paints/painted/painted",
    "clean": "wash/washes/washed/washed brush/brushes/brushed/brushed",
}

# Each row is one meaning.
ADJECTIVES: tuple[tuple[str, ...], ...] = (
    ("big", "large"),
    ("small", "little"),
    ("old", "aged"),
    ("young",),
    ("fast", "quick"),
    ("quiet", "silent"),
    ("wet", "damp"),
    ("red",),
    ("green",),
    ("white",),
    ("heavy",),
    ("strange", "odd"),
)
PLACES = (
    "in the garden",
    "at the market",
    "near the river",
    "behind the church",
    "on the hill",
    "at the station",
    "in the forest",
    "by the lake",
)
# (base, third person)
INTRANSITIVE = (
    ("sleep", "sleeps"),
    ("run", "runs"),
    ("wait", "waits"),
    ("smile", "smiles"),
    ("sing", "sings"),
    ("swim", "swims"),
    ("arrive", "arrives"),
    ("fall", "falls"),
    ("rest", "rests"),
    ("jump", "jumps"),
)
PREPOSITIONS = ("near", "behind", "beside", "with")

ITEMS = _words("film movie play book song meal hotel service story show concert novel room trip game lesson menu plot")
JUDGES = _words("critic guest reviewer customer student audience visitor jury reader family")
PRAISE = _words(
    "good great wonderful charming delightful superb lovely pleasant excellent brilliant moving clever "
    "fresh funny warm elegant gripping thrilling graceful impressive"
)
BLAME = _words(
    "bad awful terrible dull boring poor dreadful weak clumsy bland tedious ugly stale messy silly "
    "annoying lifeless shallow dismal disappointing"
)
NEUTRAL = _words("long short new recent local foreign famous cheap expensive early late modern")
# What a judge is after a bad and after a good review; only in text to pretrain on.
MOODS = (_words("angry upset unhappy bored"), _words("glad happy pleased cheerful"))
# (base, past)
LIKING = (
    ("love", "loved"),
    ("enjoy", "enjoyed"),
    ("admire", "admired"),
    ("praise", "praised"),
    ("recommend", "recommended"),
    ("like", "liked"),
    ("adore", "adored"),
)
DISLIKING = (
    ("hate", "hated"),
    ("dislike", "disliked"),
    ("regret", "regretted"),
    ("criticise", "criticised"),
    ("despise", "despised"),
    ("mock", "mocked"),
    ("loathe", "loathed"),
)


def _entries(table: dict[str, str]) -> list[tuple[tuple[tuple[str, ...], ...], str | None]]:
    return [
        (tuple(tuple(name.split("/")) for name in entry.split("=")), parent or None)
        for parent, children in table.items()
        for entry in children.split()
    ]


def _nouns() -> dict[str, Noun]:
    tables = ((_ANIMATE, True), (_THINGS, False))
    found = [
        Noun(tuple((name[0], name[1]) for name in names), parent, animate)
        for table, animate in tables
        for names, parent in _entries(table)
    ]
    return {noun.key: noun for noun in found}


def _verbs() -> dict[str, Verb]:
    tables = ((_VERBS_OF_THINGS, True), (_VERBS_OF_ANYTHING, False))
    found = [
        Verb(tuple((name[0], name[1], name[2], name[3]) for name in names), parent, things_only)
        for table, things_only in tables
        for names, parent in _entries(table)
    ]
    return {verb.key: verb for verb in found}


NOUNS: dict[str, Noun] = _nouns()
VERBS: dict[str, Verb] = _verbs()
SUBJECTS: tuple[str, ...] = tuple(key for key, noun in NOUNS.items() if noun.animate)
THINGS: tuple[str, ...] = tuple(key for key, noun in NOUNS.items() if not noun.animate)


@cache
def line_of(table: str, key: str) -> tuple[str, ...]:
    """A concept and its hypernyms, nearest first; ``table`` is "noun" or "verb"."""
    parent = (NOUNS if table == "noun" else VERBS)[key].parent
    return (key,) if parent is None else (key, *line_of(table, parent))


@cache
def below(table: str, key: str) -> tuple[str, ...]:
    """The concepts that have ``key`` among their hypernyms, in the order of the table."""
    return tuple(other for other in (NOUNS if table == "noun" else VERBS) if key in line_of(table, other)[1:])


@cache
def siblings(table: str, key: str) -> tuple[str, ...]:
    """The other concepts with the same hypernym, in the order of the table; empty at the top."""
    entries: dict[str, Noun] | dict[str, Verb] = NOUNS if table == "noun" else VERBS
    parent = entries[key].parent
    return tuple(other for other, entry in entries.items() if parent and entry.parent == parent and other != key)

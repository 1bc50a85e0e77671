"""What a linear layer of a transformer block does, and the named choices of layers to adapt."""

from collections.abc import Iterable, Sequence
from enum import StrEnum


class Role(StrEnum):
    """The part a projection plays in its block, whatever the architecture calls it.

    In a gated feed-forward, ``down(activation(gate(x)) * up(x))``, GATE is the branch that goes through the activation
    and UP is the linear one; a feed-forward without a gate, ``down(activation(up(x)))``, has UP and DOWN only.
    """

    QUERY = "query"
    KEY = "key"
    VALUE = "value"
    OUTPUT = "output"
    UP = "up"
    GATE = "gate"
    DOWN = "down"


ATTENTION = frozenset({Role.QUERY, Role.KEY, Role.VALUE, Role.OUTPUT})
FEED_FORWARD = frozenset({Role.UP, Role.GATE, Role.DOWN})

ROLE_SETS: dict[str, frozenset[Role]] = {
    "qv": frozenset({Role.QUERY, Role.VALUE}),
    "qkvo": ATTENTION,
    "all": ATTENTION | FEED_FORWARD,
    "mlp": FEED_FORWARD,
    "q": frozenset({Role.QUERY}),
    "k": frozenset({Role.KEY}),
    "v": frozenset({Role.VALUE}),
    "o": frozenset({Role.OUTPUT}),
    "qk": frozenset({Role.QUERY, Role.KEY}),
}
"""The choices of roles by name. Tables are those of the LoRA paper (Hu et al. 2021, arXiv 2106.09685).

| name     | layers adapted in every block              | table of the paper it serves                       |
|----------|--------------------------------------------|----------------------------------------------------|
| ``qv``   | query, value                               | 2 and 3 (every GLUE and GPT-2 result); 5 at r=4; 6 |
| ``qkvo`` | query, key, value, output of the attention | 5 at r=2; 6                                        |
| ``all``  | attention and feed-forward                 | none: the paper left the feed-forward frozen       |
| ``mlp``  | up, gate (where there is one) and down     | none: the paper left the feed-forward frozen       |
| ``q``    | query                                      | 5 at r=8; 6; the subspaces of 7                    |
| ``k``    | key                                        | 5 at r=8                                           |
| ``v``    | value                                      | 5 at r=8                                           |
| ``o``    | output of the attention                    | 5 at r=8                                           |
| ``qk``   | query, key                                 | 5 at r=4                                           |
"""


def adapted_label(method: str, roles: Iterable[str], modules: Sequence[str] | None) -> str:
    """What settings of ``lora`` train, in a word.

    Args:
        method: "lora", or a baseline, which is its own word.
        roles: Values of `Role`.
        modules: Layers by name, which stand for the roles where there are some.

    Returns:
        "all"; the initials of the attention's roles, "mlp", or both, as in "qv+mlp"; of a part of the feed-forward its
        roles, as in "qv+up"; "named" for layers by name. Other roles have another word.
    """
    if method != "lora":
        return method
    if modules:
        return "named"
    chosen = set(roles)
    attention = "".join(role[0] for role in ("query", "key", "value", "output") if role in chosen)
    feed_forward = "+".join(role for role in ("up", "gate", "down") if role in chosen)
    if feed_forward == "up+gate+down":
        feed_forward = "mlp"
    return "all" if (attention, feed_forward) == ("qkvo", "mlp") else f"{attention}+{feed_forward}".strip("+")

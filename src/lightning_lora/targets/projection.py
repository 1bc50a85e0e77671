"""A row of an architecture's table, and the matching of module names against such rows."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from lightning_lora.targets.roles import Role


@dataclass(frozen=True)
class Projection:
    """One linear layer of every block: how its module is named and what its outputs are.

    The output of a fused layer, ``parts * groups * width`` features, is viewed as (groups, parts, width): with
    ``groups=None`` there is one group and the parts follow one another (q | k | v); otherwise each head holds its own
    parts (q0 | k0 | v0 | q1 | ...).

    Attributes:
        pattern: Regular expression for the end of the full module name, from a dot (or the start of the name) on.
            Its named group ``block``, digits only, is the number of the transformer block.
        roles: One role for a plain layer, several for a fused one, in the order of the parts.
        groups: For a fused layer interleaved per head, the attribute of the model's config with the number of heads.

    Raises:
        ValueError: the pattern does not compile or lacks the group ``block``, ``roles`` is empty or repeats a role, or
            ``groups`` is given for a layer that is not fused.
    """

    pattern: str
    roles: tuple[Role, ...]
    groups: str | None = None

    def __post_init__(self) -> None:
        try:
            named_groups = re.compile(self.pattern).groupindex
        except re.error as error:
            raise ValueError(f"pattern {self.pattern!r} is not a regular expression: {error}") from None
        if "block" not in named_groups:
            raise ValueError(rf"pattern {self.pattern!r} has no block number: add the group (?P<block>\d+)")
        if not self.roles or len(set(self.roles)) < len(self.roles):
            raise ValueError(f"roles of {self.pattern!r} must be one or more different roles, not {self.roles}")
        if self.groups is not None and len(self.roles) == 1:
            raise ValueError(f"groups={self.groups!r} of {self.pattern!r} needs a fused layer: two or more roles")

    def groups_in(self, config: object) -> int:
        """Number of groups of the layer's output in a model with this config."""
        return getattr(config, self.groups) if self.groups else 1


@dataclass(frozen=True)
class Match:
    """A module name recognised by a projection.

    Attributes:
        block: Number of its transformer block, from 0. T5 numbers encoder and decoder blocks from 0 each. ALBERT
            shares layers, so the number is that of the layer group (0 in every published checkpoint).
        projection: The row that matched.
    """

    block: int
    projection: Projection

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles of the module, in the order of its parts."""
        return self.projection.roles


def match(name: str, projections: Iterable[Projection]) -> Match | None:
    """Find the projection that a module name belongs to.

    Args:
        name: Full module name, as ``named_modules`` gives it.
        projections: Rows of one architecture; the first that matches counts.

    Returns:
        The match, or None where the module is no projection of a transformer block (embeddings, pooler, head,
        norms and containers are not).
    """
    for projection in projections:
        found = re.fullmatch(rf"(?:.*\.)?(?:{projection.pattern})", name)
        if found is not None:
            return Match(block=int(found["block"]), projection=projection)
    return None

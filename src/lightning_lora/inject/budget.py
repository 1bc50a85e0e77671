"""Ranks that spend a given number of adapter parameters exactly, so that choices of layers are compared at equal size.

A layer's term costs ``rank · (in + out)`` (Hu et al. 2021, arXiv 2106.09685, section 4.2). Where attention is square
and the feed-forward four times as wide, a block costs 4d, 8d, 10d and 18d per rank for query and value, all of the
attention, the feed-forward, and both; so ranks 90, 45, 36 and 20 are one budget, and 18, 9 and 4 one without the third.
"""

from collections.abc import Iterable, Sequence

from lightning_lora.inject.selection import Selected


def parameter_count(chosen: Iterable[Selected], rank: int) -> int:
    """Adapter parameters on these layers at one rank for all."""
    return rank * sum(selected.parameters_per_rank for selected in chosen)


def ranks_spending(budget: int, chosen: Sequence[Selected]) -> dict[str, int] | None:
    """The most even ranks for which the layers have ``budget`` adapter parameters in all; the same at every call.

    One rank for all where that is exact. Otherwise some layers have one rank more than the others: of each size of
    layer as equal a share as can be, and of these every second, third, ... in the order of roles, then of blocks.

    Args:
        budget: Number of parameters.
        chosen: The layers, as `select` gave them.

    Returns:
        Each layer's rank by its full name, from 1; None where no ranks that differ by at most one are exact.
    """
    rank, rest = divmod(budget, parameter_count(chosen, 1))
    sizes: dict[int, list[Selected]] = {}
    for selected in sorted(chosen, key=lambda one: (one.roles, -1 if one.block is None else one.block, one.name)):
        sizes.setdefault(selected.parameters_per_rank, []).append(selected)
    raised = _shares(rest, [(size, len(layers)) for size, layers in sizes.items()])
    if rank < 1 or raised is None:
        return None
    ranks = {
        selected.name: rank + (place + 1) * count // len(layers) - place * count // len(layers)
        for layers, count in zip(sizes.values(), raised, strict=True)
        for place, selected in enumerate(layers)
    }
    return {selected.name: ranks[selected.name] for selected in chosen}


def _shares(rest: int, sizes: Sequence[tuple[int, int]]) -> tuple[int, ...] | None:
    """How many layers of each (parameters, number) get one rank more, to spend ``rest``; None where it cannot be.

    A subset sum over the few different sizes: for each sum that can be reached, the counts whose shares of their size
    are least unequal (in squares).
    """
    share = rest / sum(size * number for size, number in sizes)
    reached: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}
    for size, number in sizes:
        further: dict[int, tuple[float, tuple[int, ...]]] = {}
        for spent, (unevenness, counts) in reached.items():
            for count in range(min(number, (rest - spent) // size) + 1):
                candidate = (unevenness + number * (count / number - share) ** 2, (*counts, count))
                total = spent + count * size
                further[total] = min(further.get(total, candidate), candidate)
        reached = further
    return reached[rest][1] if rest in reached else None


def matched_ranks(chosen: Sequence[Selected], reference: Sequence[Selected], rank: int) -> dict[str, int]:
    """Ranks for ``chosen`` that spend what ``reference`` would at ``rank``.

    Args:
        chosen: The layers to adapt.
        reference: The layers whose parameters at one rank are the budget.
        rank: That rank.

    Returns:
        Each chosen layer's rank by its full name, see `ranks_spending`.

    Raises:
        ValueError: no ranks are exact, or one is larger than its layer allows; with the nearest rank that would do.
    """
    budget = parameter_count(reference, rank)
    ranks = _fitting_ranks(budget, chosen)
    if ranks is None:
        room = max(selected.largest_rank for selected in chosen) * parameter_count(chosen, 1)
        others = sorted(
            range(1, room // parameter_count(reference, 1) + 1), key=lambda other: (abs(other - rank), other)
        )
        fits = (other for other in others if _fitting_ranks(parameter_count(reference, other), chosen))
        nearest = next(fits, None)
        raise ValueError(
            f"same_parameters_as: at rank={rank} that is {budget:,} adapter parameters, which the selected layers "
            "cannot have with ranks that differ by one at most; "
            + (f"the nearest rank at which they can is {nearest}" if nearest else "they can at no rank")
        )
    return ranks


def _fitting_ranks(budget: int, chosen: Sequence[Selected]) -> dict[str, int] | None:
    ranks = ranks_spending(budget, chosen)
    fit = ranks is not None and all(ranks[selected.name] <= selected.largest_rank for selected in chosen)
    return ranks if fit else None

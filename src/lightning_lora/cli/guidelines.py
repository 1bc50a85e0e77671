"""What is allowed and seldom meant: settings outside the usual ranges of LoRA, the embedded encoder on real text."""

from collections.abc import Sequence

from lightning_lora.config import RunConfig
from lightning_lora.model_names import EMBEDDED
from lightning_lora.tasks import TOY_TASKS

USUAL_RANGES = "rank 4 to 64, alpha rank to 2·rank, lr 1e-4 to 1e-3, lora.dropout up to 0.1"
"""The guideline ranges within which LoRA is usually run; outside them a run gets a warning, not an error."""
MOST_PHRASES = 12
"""A grid may have hundreds of pairs outside them; one line names the first."""


def warnings_of(configs: Sequence[RunConfig]) -> tuple[str, ...]:
    """What the jobs of a command line are warned of, one line for each kind of warning."""
    found = []
    if phrases := dict.fromkeys(phrase for config in configs for phrase in guideline_warnings(config)):
        more = f" and {len(phrases) - MOST_PHRASES} more" if len(phrases) > MOST_PHRASES else ""
        named = ", ".join(list(phrases)[:MOST_PHRASES])
        found.append(f"warning: outside the usual ranges ({USUAL_RANGES}): {named}{more}")
    if tasks := dict.fromkeys(config.data.task for config in configs if _is_beyond_the_embedded_encoder(config)):
        found.append(
            f"warning: model={EMBEDDED} knows the generated language of the toy_* tasks and no English; "
            f"for data={','.join(tasks)} give model=roberta_base or model.name=path/to/encoder"
        )
    return tuple(found)


def guideline_warnings(config: RunConfig) -> list[str]:
    """Settings outside the usual ranges of LoRA (`USUAL_RANGES`), one phrase each; a baseline gets none."""
    if config.lora.method != "lora":
        return []
    alpha = 2.0 * config.rank if config.alpha is None else config.alpha
    outside = {
        f"rank={config.rank}": not 4 <= config.rank <= 64,
        f"alpha={alpha:g} at rank={config.rank}": not config.rank <= alpha <= 2 * config.rank,
        f"lr={config.lr:g}": not 1e-4 <= config.lr <= 1e-3,
        f"lora.dropout={config.lora.dropout:g}": config.lora.dropout > 0.1,
    }
    return [phrase for phrase, is_outside in outside.items() if is_outside]


def _is_beyond_the_embedded_encoder(config: RunConfig) -> bool:
    return config.model.name == EMBEDDED and config.data.task not in TOY_TASKS

"""The ranges in which LoRA is usually run."""

from lightning_lora.config import RunConfig

USUAL_RANGES = "rank 4 to 64, alpha rank to 2·rank, lr 1e-4 to 1e-3, lora.dropout up to 0.1"
"""The guideline ranges within which LoRA is usually run; outside them a run gets a warning, not an error."""


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

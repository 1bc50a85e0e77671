"""Section 5.1: the projections of a block, in every architecture with a table, and what the code's names find."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel

from experiments.theory.finding import Finding, carry_out
from lightning_lora.inject import select
from lightning_lora.targets import ARCHITECTURES, ROLE_SETS, Role

# The roles of a feed-forward with or without a gate.
REQUIRED = ("query", "key", "value", "output", "up", "down")


def roles_of(architecture: str) -> dict[str, Any]:
    """How many layers have each role, and on how many Linear layers the document's default names would fall."""
    config = AutoConfig.for_model(architecture)
    config.num_hidden_layers = 2
    if hasattr(config, "num_decoder_layers"):
        config.num_decoder_layers = 2
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    found = select(model, roles=ROLE_SETS["all"])
    named = ("q_proj", "k_proj", "v_proj", "o_proj")
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return {
        "counts": {str(role): sum(role in selected.roles for selected in found) for role in Role},
        "fused": sorted({"+".join(selected.roles) for selected in found if len(selected.roles) > 1}),
        "by_the_documents_names": sum(any(part in name for part in named) for name in linear),
    }


def measure(quick: bool) -> dict[str, Any]:
    """Shapes alone, on the meta device: the quick version is the whole."""
    return {"roles": {architecture: roles_of(architecture) for architecture in sorted(ARCHITECTURES)}}


def findings(data: dict[str, Any]) -> list[Finding]:
    return [of_the_roles(data["roles"])]


def of_the_roles(roles: dict[str, Any]) -> Finding:
    none = [name for name, found in roles.items() if not found["by_the_documents_names"]]
    complete = [name for name, found in roles.items() if all(found["counts"][role] for role in REQUIRED)]
    assert roles["opt"]["by_the_documents_names"] == 2 * 3
    return Finding(
        "5.1",
        "the projections of a block",
        "A block has query, key, value and output, up and down, and a gate where the feed-forward is gated; its code "
        "looks for q_proj, k_proj, v_proj, o_proj.",
        "The roles are those; the names are another for most architectures, several roles may share one weight, and "
        "blocks may share their weights.",
        "holds with conditions",
        f"Every role has its layers in {len(complete)} of {len(roles)} architectures, as models of two blocks (T5: two "
        "of the encoder and two of the decoder, with cross-attention). The document's four names fall on no Linear "
        f"layer of {len(none)} of them: {', '.join(none)}; on OPT the output is missed.\n\n{table_of_roles(roles)}",
    )


def table_of_roles(roles: dict[str, Any]) -> str:
    lines = [f"| architecture | {' | '.join(map(str, Role))} | fused | by the document's names |"]
    lines.append("|---|" + "---:|" * len(Role) + "---|---:|")
    for name, found in roles.items():
        counts = " | ".join(str(found["counts"][str(role)] or "–") for role in Role)
        lines.append(f"| {name} | {counts} | {', '.join(found['fused'])} | {found['by_the_documents_names']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    carry_out(Path(__file__).parent, measure, findings)

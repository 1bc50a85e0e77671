"""From a run's adapter to a plain Hugging Face folder of the merged model, with what merging changed."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from lightning_lora.adapters_io import write_model
from lightning_lora.atomic import atomic_folder, refuse_existing
from lightning_lora.backbone import load_backbone, quiet_transformers
from lightning_lora.data.files import DataError
from lightning_lora.inject import eject, merge
from lightning_lora.lora.functional import round_once
from lightning_lora.predicting import logits_of, own_splits
from lightning_lora.reporting import method_of
from lightning_lora.restoring import Trained, restore
from lightning_lora.run_folder import ADAPTER, MERGED, run_of
from lightning_lora.spelling import check_known
from lightning_lora.training import compare_logits

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class MergeReport:
    """What became of the model on its way into the folder.

    Attributes:
        dtype: Of the weights in the folder: a key of `DTYPES`.
        largest_rounding: Largest distance of a stored weight from the exact ``W0 + ΔW``, in units in the last place of
            the exact one; 0.5 is the least that rounding can promise.
        rows: Dev rows on which the folder, read back as fp32, was compared with the adapted model; 0 where the data are
            gone.
        changed_predictions: Rows with another class (in regression, another value by more than 1e-3).
        max_logit_difference: Largest absolute difference of a logit.
        not_compared: Why no logits were compared, or "".
    """

    dtype: str
    largest_rounding: float
    rows: int = 0
    changed_predictions: int = 0
    max_logit_difference: float = 0.0
    not_compared: str = ""


def merge_run(folder: Path, out: Path, *, dtype: str = "fp32", force: bool = False) -> MergeReport:
    """Merge the adapter of a run, write the model, read it back and compare; only then does it stand in ``out``.

    The sum is made in fp64 and rounded once, to ``dtype``. Weights tied to each other stay tied.

    Args:
        folder: The run's folder, or ``adapter`` in it.
        out: Folder to write: config, safetensors, tokenizer, and a model card that says what was merged. Replaced if it
            is the run's own ``merged…``; no other folder that is there is touched.
        dtype: A key of `DTYPES`.
        force: Merge also into a base model that is not the one the adapter was trained on; ``out`` is not the run's
            own then.

    Raises:
        ValueError: the run kept no adapter, its base is another one, ``out`` is there already, ``dtype`` is no key of
            `DTYPES`, or a merged weight is not finite in it.
        CannotWriteError: the folder cannot be written to, or the disk is full.
    """
    check_known("dtype", dtype, DTYPES)
    run, _ = run_of(folder)
    is_own = out.name.startswith(MERGED) and out.resolve().parent == run.resolve()
    if not is_own:
        refuse_existing(out)
    trained = restore(run / ADAPTER, force=force)
    if is_own and not _on_its_base(trained):
        raise ValueError(f"{out}: a model of another base would stand for the run's own there; choose another folder")
    before = _dev_logits(trained)
    model = trained.backbone.model.cpu().double()
    merge(model)
    eject(model)
    rounding = round_weights(model, DTYPES[dtype])
    with atomic_folder(out) as temporary:
        with quiet_transformers():
            write_model(model, trained.backbone.tokenizer, temporary)
        if isinstance(before, str):
            report = MergeReport(dtype, rounding, not_compared=before)
        else:
            after = _dev_logits(replace(trained, backbone=load_backbone(str(temporary), trained.task)))
            assert isinstance(after, Tensor), "the data were there a moment ago"
            check = compare_logits(before, after)
            report = MergeReport(dtype, rounding, check.rows, check.changed_predictions, check.max_logit_difference)
        (temporary / "README.md").write_text(model_card(trained, report), encoding="utf-8")
    return report


def _on_its_base(trained: Trained) -> bool:
    return trained.backbone.fingerprint == trained.record.base["fingerprint"]


@torch.no_grad()
def round_weights(model: nn.Module, dtype: torch.dtype) -> float:
    """Round a model from fp64 in place, tensor by tensor: one of them at a time is there twice. What is tied stays so.

    Returns:
        The largest rounding, see `rounding_in_ulps`.

    Raises:
        ValueError: a value is not finite in ``dtype``. The model is rounded in part then.
    """
    largest = 0.0
    for name, tensor in model.state_dict(keep_vars=True).items():
        if tensor.dtype == torch.float64:  # tied tensors have several names, and are rounded under the first
            rounded = round_once(tensor, dtype)
            largest = max(largest, _checked_rounding(name, tensor, rounded))
            tensor.data = rounded
    return largest


def rounding_in_ulps(exact: Float[Tensor, "..."], rounded: Shaped[Tensor, "..."]) -> float:
    """Largest ``|rounded − exact|`` in units in the last place, of the type of ``rounded`` at the exact value.

    Args:
        exact: fp64.
        rounded: The same in a narrower type. The unit at x is ``eps · 2^floor(log2 |x|)``, and that of the smallest
            normal number below it (Goldberg 1991, section 1.2).
    """
    facts = torch.finfo(rounded.dtype)
    exponent = torch.frexp(exact.abs().clamp(min=facts.tiny)).exponent - 1
    unit = torch.ldexp(torch.full_like(exact, facts.eps), exponent)
    return float(((rounded.to(exact.dtype) - exact).abs() / unit).max()) if exact.numel() else 0.0


def model_card(trained: Trained, report: MergeReport) -> str:
    """What was merged into what, as the README.md of the folder."""
    record = trained.record
    config = record.config
    compared = report.not_compared or (
        f"{report.changed_predictions} of {report.rows} dev predictions changed, largest logit difference "
        f"{report.max_logit_difference:.1e}, both computed in fp32"
    )
    fingerprint = str(trained.backbone.fingerprint)
    if not _on_its_base(trained):
        fingerprint += f". It is not the one that it was trained on, {record.base['fingerprint']}, nor scored on"
    revision = f" (revision {record.base['revision']})" if record.base.get("revision") else ""
    alpha = "2 x rank" if config["alpha"] is None else f"{config['alpha']:g}"
    scores = [f"{split} {name} {value:.4f}" for split, found in record.metrics.items() for name, value in found.items()]
    return "\n".join(
        [
            f"# {record.task}: a LoRA adapter merged into {record.base['name']}",
            "",
            f"- Base model: {record.base['name']}{revision}, fingerprint {fingerprint}",
            f"- Adapter: {method_of(record)}, rank {config['rank']}, alpha {alpha}, {config['lora']['scaling']}",
            f"- Task: {record.task}, trained on {next(iter(record.data['rows'].values()))} rows, seed {config['seed']}",
            f"- Scores of the run: {', '.join(scores)}",
            f"- Weights: W0 + ΔW summed in fp64 and rounded once to {report.dtype}; largest rounding "
            f"{report.largest_rounding:.3f} units in the last place",
            f"- Merged against adapted: {compared}",
            f"- Made with lightning-lora {record.versions.get('lightning-lora', '')}, job {record.job_id}",
            "",
        ]
    )


def _dev_logits(trained: Trained) -> Float[Tensor, "rows outputs"] | str:
    """Logits on the first dev split that the run was scored on, or why there are none."""
    try:
        first = next(iter(own_splits(trained).values()))
    except DataError as error:
        return f"the dev data are not available, so no logits were compared ({error})"
    return logits_of(trained.backbone, first.texts, max_length=trained.max_length)


def _checked_rounding(name: str, exact: Tensor, rounded: Tensor) -> float:
    if not bool(rounded.isfinite().all()):
        raise ValueError(
            f"{name} is not finite in {rounded.dtype}; choose a dtype of wider range, such as bf16 or fp32"
        )
    return rounding_in_ulps(exact, rounded)

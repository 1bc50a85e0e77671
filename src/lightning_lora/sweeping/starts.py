"""Identifies the run behind a warm start, so that seeds which started from equivalent runs count as one option."""

import hashlib
import json
from pathlib import Path

from lightning_lora.reporting import RunRecord
from lightning_lora.run_folder import run_of
from lightning_lora.sweeping.identity import identity_of
from lightning_lora.sweeping.reuse import earlier_record

# What the run that starts shares with it, or else the adapter would not fit; and the seed, over which is averaged.
_IGNORED = ("seed", "rank", "alpha")
_LORA_KEYS = ("dropout", "initialisation")


def origin_of(run: Path) -> dict[str, str]:
    """``job_id`` and ``settings`` of `WarmStart`; empty where no finished run stands behind the adapter.

    Args:
        run: The earlier run's folder, or its ``adapter``.
    """
    folder, _ = run_of(run)
    record = earlier_record(folder)
    if record is None or record.status != "finished":
        return {}
    return {"job_id": record.job_id, "settings": _settings_id(record)}


def _settings_id(record: RunRecord) -> str:
    """Sixteen hexadecimal digits; of a run that had a warm start itself, that one's are among what they stand for."""
    config = identity_of(record.config)
    start = record.base.get("warm_start") or {}
    told = {key: value for key, value in config.items() if key not in _IGNORED}
    payload = told | {
        "lora": {key: config["lora"].get(key) for key in _LORA_KEYS},
        "warm_start": start.get("settings") or start.get("fingerprint"),
        "precision": record.precision,
        "base": record.base["fingerprint"],
        "data": record.data.get("drawn_from", record.data["fingerprint"]),
        "code": record.versions["lightning-lora"],
    }
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()[:16]

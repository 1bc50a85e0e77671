"""Jobs of a sweep: what makes two of them the same."""

from lightning_lora.sweeping.identity import determines_result as determines_result
from lightning_lora.sweeping.identity import job_id as job_id

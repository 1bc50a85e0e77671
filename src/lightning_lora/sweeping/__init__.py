"""Sweeps: what makes two jobs the same, what is reused, how jobs are started and what is shown of them.

Only names and identities are imported here: they need the standard library, and a command line is checked with them.
"""

from lightning_lora.sweeping.identity import ARITHMETIC as ARITHMETIC
from lightning_lora.sweeping.identity import determines_result as determines_result
from lightning_lora.sweeping.identity import job_id as job_id
from lightning_lora.sweeping.identity import of_adapters_only as of_adapters_only
from lightning_lora.sweeping.names import job_name as job_name
from lightning_lora.sweeping.names import sweep_name as sweep_name

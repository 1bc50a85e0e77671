"""Records of runs, and what people read of them. No torch.

`comparing.compare` is not imported here: it needs SciPy, which takes half a second to import, and a run does not.
"""

from lightning_lora.reporting.comparison import Comparison as Comparison
from lightning_lora.reporting.listing import SplitScores as SplitScores
from lightning_lora.reporting.listing import method_of as method_of
from lightning_lora.reporting.listing import print_runs as print_runs
from lightning_lora.reporting.listing import print_scores as print_scores
from lightning_lora.reporting.listing import records_below as records_below
from lightning_lora.reporting.predictions import PredictionTable as PredictionTable
from lightning_lora.reporting.predictions import read_predictions as read_predictions
from lightning_lora.reporting.predictions import write_predictions as write_predictions
from lightning_lora.reporting.record import RunRecord as RunRecord
from lightning_lora.reporting.record import finite as finite
from lightning_lora.reporting.record import read_record as read_record
from lightning_lora.reporting.record import write_record as write_record
from lightning_lora.reporting.summary import print_summary as print_summary
from lightning_lora.reporting.terminal import print_comparison as print_comparison

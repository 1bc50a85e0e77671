"""What an adapter is, mathematically: counts, gradients, spectra, subspaces, dimensions. No Lightning."""

from lightning_lora.analysis.approximation import balanced_factors as balanced_factors
from lightning_lora.analysis.approximation import energy_kept as energy_kept
from lightning_lora.analysis.approximation import least_error as least_error
from lightning_lora.analysis.sensing import Descent as Descent
from lightning_lora.analysis.sensing import completion_measurements as completion_measurements
from lightning_lora.analysis.sensing import descend as descend
from lightning_lora.analysis.sensing import nuclear_norm_bound as nuclear_norm_bound
from lightning_lora.analysis.subspaces import amplification as amplification
from lightning_lora.analysis.subspaces import random_seen_along as random_seen_along
from lightning_lora.analysis.subspaces import random_similarity as random_similarity
from lightning_lora.analysis.subspaces import right_directions as right_directions
from lightning_lora.analysis.subspaces import seen_along as seen_along
from lightning_lora.analysis.subspaces import similarities as similarities

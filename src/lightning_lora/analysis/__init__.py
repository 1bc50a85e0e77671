"""What an adapter is, mathematically: counts, gradients, spectra, subspaces, dimensions. No Lightning."""

from lightning_lora.analysis.counting import AdapterCount as AdapterCount
from lightning_lora.analysis.counting import ProjectionKind as ProjectionKind
from lightning_lora.analysis.counting import count_adapter as count_adapter
from lightning_lora.analysis.gradients import FactorGradients as FactorGradients
from lightning_lora.analysis.gradients import adam_first_step as adam_first_step
from lightning_lora.analysis.gradients import expected_adam_step as expected_adam_step
from lightning_lora.analysis.gradients import expected_cosine as expected_cosine
from lightning_lora.analysis.gradients import expected_gradient_norm as expected_gradient_norm
from lightning_lora.analysis.gradients import expected_sgd_step as expected_sgd_step
from lightning_lora.analysis.gradients import factor_gradients as factor_gradients
from lightning_lora.analysis.gradients import sgd_step as sgd_step
from lightning_lora.analysis.gradients import weight_gradient as weight_gradient
from lightning_lora.analysis.moments import Moments as Moments
from lightning_lora.analysis.moments import initial_moments as initial_moments
from lightning_lora.analysis.moments import output_variance as output_variance
from lightning_lora.analysis.moments import product_moments as product_moments
from lightning_lora.analysis.rounding import forward_rounding_bound as forward_rounding_bound
from lightning_lora.analysis.spectra import ENERGY as ENERGY
from lightning_lora.analysis.spectra import Spectrum as Spectrum
from lightning_lora.analysis.spectra import energy_rank as energy_rank
from lightning_lora.analysis.spectra import entropy_rank as entropy_rank
from lightning_lora.analysis.spectra import proposed_ranks as proposed_ranks
from lightning_lora.analysis.spectra import spectra as spectra
from lightning_lora.analysis.spectra import stable_rank as stable_rank

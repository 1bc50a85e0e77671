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
from lightning_lora.analysis.intrinsic_dimension import DenseLift as DenseLift
from lightning_lora.analysis.intrinsic_dimension import FastfoodLift as FastfoodLift
from lightning_lora.analysis.intrinsic_dimension import RandomSubspace as RandomSubspace
from lightning_lora.analysis.intrinsic_dimension import Reached as Reached
from lightning_lora.analysis.intrinsic_dimension import Trial as Trial
from lightning_lora.analysis.intrinsic_dimension import smallest_reaching as smallest_reaching
from lightning_lora.analysis.intrinsic_dimension import walsh_hadamard as walsh_hadamard
from lightning_lora.analysis.moments import Moments as Moments
from lightning_lora.analysis.moments import initial_moments as initial_moments
from lightning_lora.analysis.moments import output_variance as output_variance
from lightning_lora.analysis.moments import product_moments as product_moments
from lightning_lora.analysis.rounding import forward_rounding_bound as forward_rounding_bound

"""What an adapter is, mathematically: counts, gradients, spectra, subspaces, dimensions. No Lightning."""

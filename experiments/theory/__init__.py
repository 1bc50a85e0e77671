"""The document's claims, each an experiment with a verdict."""

"""Layers reweighted: mixtures of RDMs, readouts and gains, fitted to few stimuli."""

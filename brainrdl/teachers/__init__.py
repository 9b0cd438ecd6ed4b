"""Whoever can say how far apart stimuli are."""

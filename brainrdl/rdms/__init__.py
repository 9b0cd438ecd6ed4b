"""Representational distance matrices: distances, comparison, labels, averages, RDMs of layers."""

"""Students fitted to measured RDMs."""

"""Studies that fit students to measured RDMs: what ``brainrdl fit`` and ``brainrdl card`` do."""

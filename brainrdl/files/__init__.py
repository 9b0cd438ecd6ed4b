"""Files: written atomically, read within a budget, locked, and compared with their checksums."""

"""The loop: task loss + Σ α · term (Eq. 5)."""

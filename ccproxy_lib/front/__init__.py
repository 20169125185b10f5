"""Floor 5: the command line and what stands behind it."""

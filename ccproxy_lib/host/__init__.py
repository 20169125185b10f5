"""Floor 3: the operating system, one small module per concern."""

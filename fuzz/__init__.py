"""Random bytes against everything that takes bytes from outside; see docs/FUZZING.md."""

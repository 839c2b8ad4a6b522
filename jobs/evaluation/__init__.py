"""Is it better? Suites put to checkpoints, what came of it, and two of them side by side."""

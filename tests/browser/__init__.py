"""A package, for fixtures that live as long as its tests."""

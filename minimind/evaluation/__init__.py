"""Is it better? Asking a model the same things as another, scoring what it says, and how sure that is."""

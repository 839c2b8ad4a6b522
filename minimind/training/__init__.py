"""Training: the recipe, the one loop that follows it, and what both are made of."""

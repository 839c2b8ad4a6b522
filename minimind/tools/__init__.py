"""Tools: what a model may call while it answers, and what it gets back."""

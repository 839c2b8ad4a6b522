"""What a training step takes, said before it runs."""

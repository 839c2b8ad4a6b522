"""Answers: the engine, what it computes with, and how a token is drawn."""

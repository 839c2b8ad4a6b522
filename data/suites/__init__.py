"""Tests of what a model knows, as rows made by generators."""

"""Rows that models write: answers of a teacher, and the better and the worse of a model's own."""

"""What an answer is worth: checks of what was asked for, and diagnoses of what went wrong with its text."""

"""An experiment that someone else can repeat: its log, its repetition, and the card of the model that came of it."""

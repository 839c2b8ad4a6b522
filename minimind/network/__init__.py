"""The network and what is put on it: attention, adapters, a head for scores."""

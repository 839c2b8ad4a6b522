"""MiniMind-style language models in plain PyTorch: model, tokenizer, objectives, the one training loop, checkpoints.

Nothing here knows of Ray, HTTP or Arrow.
"""

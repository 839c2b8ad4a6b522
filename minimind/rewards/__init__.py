"""Rewards: what an answer is worth in reinforcement learning."""

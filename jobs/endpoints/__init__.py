"""Models behind OpenAI-compatible endpoints: how they are asked, what they say, and the key."""

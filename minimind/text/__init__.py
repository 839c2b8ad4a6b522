"""Text as token ids and back: the tokenizer, the chat template, conversations."""

"""The verbs of the command line: each module holds the arguments of one or a few, and what they do."""

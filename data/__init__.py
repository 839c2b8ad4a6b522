"""Files to batches: rows and their checks, token shards, packing, and the stock data. Knows nothing of Ray."""

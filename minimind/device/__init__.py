"""What a device is asked for: fixed orders of sums, other ranks, a limit on memory."""

"""All stages in a row, as one job: what one starts in the evening."""

"""What a committed command does to the rows: deterministic, reads nothing local."""

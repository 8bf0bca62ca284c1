"""What grows with the number of nodes past what one machine can run: by simulation, by real calls, by arithmetic."""

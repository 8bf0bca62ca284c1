"""Where a key lives: hashing, placement, topology. Pure: no I/O, no asyncio, no clock, no module-level randomness."""

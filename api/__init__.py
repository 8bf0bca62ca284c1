"""The contract and what a user's program imports: protocol files, generated stubs, errors, the client."""

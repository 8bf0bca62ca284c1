"""The `ringhold` command."""

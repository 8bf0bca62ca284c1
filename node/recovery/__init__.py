"""Making the survivors of a lost quorum a working cluster, offline; see docs/operations.md."""

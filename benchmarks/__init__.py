"""What Ringhold costs, measured against a bare gRPC echo: run `make bench`; docs/benchmarks.md says how it is done."""

"""What a node shows: gRPC services and HTTP routes. Check, delegate, translate."""

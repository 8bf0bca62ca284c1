"""One node's process: storage, consensus, router, scatter, peers, server faces, command line."""

"""Changing what the cluster is made of while it serves: orders, the mover, and replicas that are left behind."""

"""Frames between nodes: requests, replies, and the streams that carry them."""

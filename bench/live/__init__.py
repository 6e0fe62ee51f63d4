"""Measurements of `nldf serve` over loopback: latency, interruptions, sessions at once, faces, drift, a browser."""

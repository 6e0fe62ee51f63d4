"""Measurements of `nldf serve` over loopback: latency, interruptions, sessions, faces, drift, a browser."""

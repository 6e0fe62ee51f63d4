"""Measurements of DFRF avatars: what their reference pictures decide."""

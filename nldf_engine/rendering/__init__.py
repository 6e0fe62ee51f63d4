"""Cameras, volume rendering and the layers (background, torso, head) that make a frame.

Takes any field that turns rays and a per-frame code into colours; knows no system by name.
"""

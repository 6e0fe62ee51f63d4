"""Layers that models share: encodings, the residual MLP, audio nets."""

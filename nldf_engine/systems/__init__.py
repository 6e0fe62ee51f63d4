"""The systems that can be trained and rendered: one folder each, a register of them, and what they share."""

"""What people see of an evaluation: a page, curves, a contact sheet and a video."""

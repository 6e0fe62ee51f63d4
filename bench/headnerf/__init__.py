"""Measurements of HeadNeRF: what each code moves, novel views, and lips against their sound."""

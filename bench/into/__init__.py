"""An avatar pasted back into its source: frames a second by stage, memory, and what becomes of the rest."""

from nldf_engine.base.waiting import wait_briefly

# As `nldf` does, which is measured; before numpy and torch are loaded.
wait_briefly()

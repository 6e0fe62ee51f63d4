"""An avatar pasted back into its source: frames a second by stage, memory, and what becomes of the rest."""

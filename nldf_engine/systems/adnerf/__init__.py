"""AD-NeRF: audio-driven radiance fields of head and torso."""

"""What bench/gpu.sh does on a machine with a GPU: build, check and time everything."""

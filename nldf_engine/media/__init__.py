"""Video, sound and pictures, in and out of files: PyAV, soxr and OpenCV are used here."""

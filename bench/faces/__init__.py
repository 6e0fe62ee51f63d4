"""The package's face networks against MediaPipe's own program."""

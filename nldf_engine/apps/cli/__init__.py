"""The command line `nldf`: one file a command under `commands/`."""

"""What people start: the command line, one file a command under `commands/`."""

"""One module a command; its class is named after it. Only the chosen one is ever imported."""

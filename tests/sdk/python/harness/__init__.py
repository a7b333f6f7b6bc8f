"""What both Python suites share: a server, a scripted model, strict validation, bounded waits."""

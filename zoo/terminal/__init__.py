"""What the commands share: options, tables, exit codes."""

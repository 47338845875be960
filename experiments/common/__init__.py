"""What all studies share: settings, run folders, checks, tables, progress, the command line."""

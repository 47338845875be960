"""Side by side in one run; nothing here runs inside tests."""

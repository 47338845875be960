"""Transformations of functions: compile once, read a program, compute in another precision."""

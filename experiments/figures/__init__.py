"""Figures of the studies: each draws one study's own numbers."""

"""The site's sources; `docs.pages` makes those of its pages that are made of the code."""

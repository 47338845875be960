"""Tables of the studies: each tabulates one study's own result, in Markdown."""

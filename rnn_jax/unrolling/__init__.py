"""A step over time: `unroll`, and the strategies that it runs by."""

"""What goes into the wheel; all else about the package is in pyproject.toml."""

from setuptools import find_packages, setup

# The studies are the package `experiments` of a clone. A wheel that put a package of that name into
# site-packages would stand in the way of everybody's own `experiments`; so they go into a folder
# inside of rnn_jax that is on no path, and `rnn-jax-study` puts it on that of its own process.
STUDIES = "rnn_jax._studies"

setup(
    packages=[
        *find_packages(include=["rnn_jax", "rnn_jax.*"]),
        *(f"{STUDIES}.{name}" for name in find_packages(include=["experiments", "experiments.*"])),
    ],
    package_dir={f"{STUDIES}.experiments": "experiments"},
)

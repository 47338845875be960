"""Studies: each file one claim, one command, one run folder."""

import sys
from importlib.util import find_spec

NEEDED = ("matplotlib", "tabulate", "tqdm", "tyro")
missing = [package for package in NEEDED if find_spec(package) is None]
if missing:
    message = (
        f"experiments: got no {', '.join(missing)}; expected the packages of the extra "
        "[experiments], which studies are drawn and tabulated with. "
        f"Install them: pip install {' '.join(missing)}"
    )
    # As `python -m experiments.NAME` and `rnn-jax-study` import this first, a sentence will do.
    raise SystemExit(message) if sys.argv[:1] == ["-m"] else ImportError(message)

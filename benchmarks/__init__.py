"""Side by side in one run; nothing here runs inside tests."""

import sys
from importlib.util import find_spec

absent = [name for name in ("matplotlib", "tabulate", "tyro") if find_spec(name) is None]
if absent:
    sentence = (
        f"benchmarks: got no {', '.join(absent)}; expected the packages of the extra [bench]. "
        f"Install them: pip install {' '.join(absent)}"
    )
    raise SystemExit(sentence) if sys.argv[:1] == ["-m"] else ImportError(sentence)

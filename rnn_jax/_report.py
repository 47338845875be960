"""The report of a run, or of a user's own arrays: one file of HTML that a person looks at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rnn_jax.errors import invalid


def report(run: str | Path | Mapping[str, Any], *, out: str | Path | None = None) -> Path:
    """Write a report, one HTML file that opens in any browser without a network; return its path.

    It has maps of ‖∂s_t/∂s_k‖ and ‖∂E_t/∂s_k‖ over (t, k) under a cursor, the decay by lag against
    bounds, learning curves, telemetry under a slider over the steps of training, Lyapunov spectra,
    and, of a run folder, the summary, the checks and where the run comes from. The same run gives
    the same bytes. States s_t count from 0, the initial one; step t makes s_t, E_t is read from it.

    ```
    log_norms = gradients.jacobian_log_norms(cell, params, xs)
    spectrum = gradients.lyapunov_spectrum(cell, params, xs)
    rnn_jax.report({"norms": log_norms, "spectrum": spectrum}, out=folder / "report.html")
    ```

    Args:
      run: the folder of a finished run, of which config.json, numbers.npz, summary.md and
        figures/*.png are read; or results by name, shown in their order:

        - `norms`: ln ‖∂s_t/∂s_k‖, `[T+1, T+1, *batch]`, as of `gradients.jacobian_log_norms`, or
          several by name;
        - `bounds`: ln of upper bounds by name, tables like those of norms or `BoundCheck`s, as of
          `gradients.check_bounds`; by the names of norms first, if these have some. "power" is
          (λ_W λ_φ)^(t−k), "product" Π‖J_i‖;
        - `loss_norms`: ln ‖∂E_t/∂s_k‖, `[T, T+1, *batch]`, or a `Decomposition`, or some by name;
        - `spectrum`: exponents `[K, *batch]`, a `LyapunovSpectrum`, or some by name;
        - `history`: metrics of training by name, `[steps, ...]`, as `training.fit` returns them, or
          those of several arms by name; telemetry's are drawn too;
        - `summary`: text in Markdown; `settings`: a mapping; `title`: of the page;
        - `panels`: a list of panels of `rnn_jax.reporting`, for anything else.
      out: the file; by default report.html in the run folder, or in the current one.

    Raises:
      FileNotFoundError: no folder of a run there.
      ImportError: plotly is missing; says how to install it.
      OSError: a file that cannot be written.
      ValueError: files that are broken, names or arrays that it does not know.
    """
    # Here, so that `import rnn_jax` takes no longer for it.
    from rnn_jax.reporting._page import page
    from rnn_jax.reporting.own_arrays import panels_of_arrays
    from rnn_jax.reporting.run_files import page_of_run

    if not isinstance(run, str | Path | Mapping):
        remedy = "Pass a path, or {'norms': ..}."
        raise invalid("run", run, "the path of a run folder, or results by name", remedy)
    if out is not None and not isinstance(out, str | Path):
        raise invalid("out", out, "the path of a file", "Pass 'report.html', say.")
    if isinstance(run, Mapping):
        title = run.get("title", "Report")
        if not isinstance(title, str):
            raise invalid("run['title']", title, "text", "Pass a str.")
        text, file = page(title, panels_of_arrays(run)), Path(out or "report.html")
    else:
        text, file = page_of_run(run), Path(out or Path(run) / "report.html")
    try:
        file.write_text(text, "utf-8")
    except OSError as error:
        got = f"{file} ({error.strerror or error})"
        remedy = "Choose another, or make room."
        raise invalid("out", got, "a file that can be written", remedy, type(error)) from error
    return file

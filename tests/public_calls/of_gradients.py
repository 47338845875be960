"""Calls of the laboratory."""

import functools

import jax.numpy as jnp

from rnn_jax import (
    cells,
    gradients,
)
from tests.public_calls.call import (
    CELL,
    DTYPE,
    KEY,
    LSTM,
    LSTM_PARAMS,
    NEVER_LOSS,
    ON,
    ON_LOSS,
    PARAMS,
    PROFILE,
    STATE,
    TABLE,
    XS,
    Call,
    H,
    I,
    J,
    T,
)


def gradient_calls():
    g = gradients
    W = {"W": J[0]}
    structure = CELL.structure
    at_a_step = {"structure": structure, "params": PARAMS, "state": STATE, "x": XS[0]}
    lstm = {"params": LSTM_PARAMS, "input_bound": 1.0}
    gru = {"params": cells.gru(H, dtype=DTYPE).init(KEY, I), "input_bound": 1.0}
    mlstm = gradients.comparison_matrices(LSTM, LSTM_PARAMS, XS)
    on_jacobians = {"jacobians": J, "norm": "spectral", "rtol": 1e-3}
    slow = functools.partial(Call, cheap=False)
    return {
        "add_penalty": Call(
            g.add_penalty,
            {"penalty": lambda p: jnp.square(p["w"]).sum(), "weight": 0.1},
            then=lambda o: o.update(
                {"w": jnp.ones(2)}, o.init({"w": jnp.ones(2)}), {"w": jnp.ones(2)}
            ),
        ),
        "block_norms": slow(g.block_norms, {"jacobians": J, "sizes": (1, 1)}),
        "by_lag": Call(
            g.by_lag,
            {"log_norms": TABLE, "average": "median"},
            never={"log_norms": [PROFILE, TABLE[:2]]},
        ),
        "certified_log_norms": slow(g.certified_log_norms, on_jacobians),
        "check_bound": Call(
            g.check_bound,
            {"log_norms": TABLE, "log_bound": TABLE + 1, "state_size": H},
            never={"log_bound": [PROFILE], "log_norms": [PROFILE]},
        ),
        "check_bounds": slow(g.check_bounds, ON),
        "comparison_blocks": Call(g.comparison_blocks, {"matrices": mlstm}),
        "comparison_bound": slow(g.comparison_bound, {"matrices": mlstm}),
        "comparison_matrices": slow(
            g.comparison_matrices,
            {"cell": LSTM, "params": LSTM_PARAMS, "xs": XS, "exact": False},
        ),
        "comparison_matrix": Call(g.comparison_matrix, {"J": g.step_jacobian(**at_a_step)}),
        "covariant_vectors": slow(
            g.covariant_vectors, {**ON, "num_exponents": 2, "warmup": 1, "cooldown": 1}
        ),
        "decay_rate": Call(
            g.decay_rate,
            {"log_norms": TABLE},
            never={"log_norms": [PROFILE, TABLE[:2]]},
            kinds={"log_norms": "two lags"},
        ),
        "decompose": slow(g.decompose, ON_LOSS, never=NEVER_LOSS),
        "decompose_terms": slow(g.decompose_terms, ON_LOSS, never=NEVER_LOSS),
        "decompose_windows": slow(g.decompose_windows, ON_LOSS | {"max_lag": 2}, never=NEVER_LOSS),
        "effective_horizon": Call(
            g.effective_horizon, {"log_left": -jnp.arange(4.0), "factor": 2.0}
        ),
        "flossing": slow(
            g.flossing, {**ON, "num_exponents": 1, "target": 0.0, "interval": 1, "warmup": 0}
        ),
        "gated_bound": slow(g.gated_bound, {"matrix": jnp.abs(J[0]), "T": T}),
        "gru_matrix": slow(g.gru_matrix, gru, kinds={"input_bound": "numbers"}),
        "lstm_matrix": slow(g.lstm_matrix, lstm | {"steps": 3.0}, kinds={"input_bound": "numbers"}),
        "input_log_norms": slow(g.input_log_norms, {**ON, "norm": "spectral", "rtol": 1e-3}),
        "jacobian_log_norms": slow(g.jacobian_log_norms, {**ON, "norm": "spectral", "rtol": 1e-3}),
        "jacobian_log_norms_by_lag": slow(
            g.jacobian_log_norms_by_lag, {**ON, "lags": (1, 2), "norm": "frobenius"}
        ),
        "largest_singular_value": slow(
            g.largest_singular_value, W | {"iterations": 3, "start": XS[0]}
        ),
        "lyapunov_spectrum": slow(
            g.lyapunov_spectrum,
            {**ON, "num_exponents": 1, "warmup": 1, "key": KEY, "interval": 1, "blocks": 1},
        ),
        "norm_bound": Call(g.norm_bound, {"cell": CELL, "params": PARAMS}, cheap=False),
        "omega": slow(
            g.omega,
            {**ON, "objective": lambda ys: jnp.square(ys).sum(), "derivative": "immediate"},
            never={"objective": [jnp.square]},
        ),
        "orthogonality_penalty": Call(g.orthogonality_penalty, W, never={"W": [J[0, 0]]}),
        "power_bound": Call(
            g.power_bound,
            {"lambda_W": 0.9, "lambda_phi": 1.0, "T": T},
            kinds={"lambda_W": "numbers"},
        ),
        "product_bound": slow(g.product_bound, {"jacobians": J}),
        "product_log_norms": slow(g.product_log_norms, on_jacobians),
        "recurrent_matrices": Call(g.recurrent_matrices, {"cell": CELL, "params": PARAMS}),
        "singular_spectra": slow(g.singular_spectra, {**ON, "lags": (1, 2), "times": (3,)}),
        "spectral_norm_penalty": slow(
            g.spectral_norm_penalty, W | {"target": 1.0, "one_sided": True, "iterations": 3}
        ),
        "state_blocks": Call(g.state_blocks, {"cell": LSTM, "params": LSTM_PARAMS}),
        "step_jacobian": slow(g.step_jacobian, at_a_step),
        "step_jacobians": slow(g.step_jacobians, ON),
        "truncated_gradient": slow(
            g.truncated_gradient,
            ON_LOSS | {"k1": 1, "k2": 2, "strategy": "scan"},
            never=NEVER_LOSS,
        ),
        "truncation_error": slow(
            g.truncation_error,
            ON_LOSS | {"k1": 1, "k2s": (1, 2), "strategy": "scan"},
            never=NEVER_LOSS,
        ),
        "unroll_nudged": slow(
            g.unroll_nudged,
            {**ON, "nudges": g.zero_nudges(CELL, PARAMS, XS), "strategy": "scan"},
        ),
        "zero_nudges": Call(g.zero_nudges, ON, kinds={"params": "shape", "xs": "shape"}),
    }

"""What torch's RNN, LSTM and GRU compute, in float64, stored so that the tests need no torch.

`python -m tests.interop.torch_reference` writes data/torch_reference.npz beside it. Names are
`network/what`:

| what                  | shape and meaning                                                |
| --------------------- | ---------------------------------------------------------------- |
| weight_ih_l0, ..      | the weights, named as in `state_dict`, drawn by numpy            |
| xs, h_0, c_0          | [T, B, I]; [layers · directions, B, H], c_0 for an lstm          |
| lengths               | [B], of a packed sequence                                        |
| ys, h_n, c_n          | [T, B, directions · H], zero past the lengths; the final states  |
| grad/weight_ih_l0, .. | of E = ½ Σ ys² + ½ Σ h_n² + ½ Σ c_n²; also grad/xs, h_0, c_0     |
"""

from pathlib import Path
from typing import Any

import numpy as np

PATH = Path(__file__).parent / "data" / "torch_reference.npz"
T, B, I, H = 6, 3, 3, 4
LENGTHS = (6, 4, 1)

NETWORKS = {
    "rnn_tanh": ("RNN", {"nonlinearity": "tanh"}),
    "rnn_relu": ("RNN", {"nonlinearity": "relu"}),
    "lstm": ("LSTM", {}),
    "gru": ("GRU", {}),
    **{
        f"{layers}layer_bidirectional_{kind}": (
            kind.upper(),
            {"bidirectional": True, "num_layers": layers},
        )
        for kind in ("lstm", "gru")
        for layers in (1, 2)
    },
}
"""Name to class and arguments. The bidirectional ones run on packed sequences of LENGTHS."""


def reference() -> dict[str, np.ndarray]:
    """All that is stored, computed by the torch that is installed."""
    return {
        f"{name}/{what}": array
        for seed, (name, (kind, options)) in enumerate(NETWORKS.items())
        for what, array in _run(kind, options, np.random.default_rng(seed)).items()
    }


def _run(kind, options, rng):
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    def leaf(*shape):
        return torch.from_numpy(rng.normal(size=shape)).requires_grad_()

    network = getattr(torch.nn, kind)(I, H, dtype=torch.float64, **options)
    weights = {name: leaf(*w.shape) for name, w in network.state_dict().items()}
    directions = 2 if network.bidirectional else 1
    start = (network.num_layers * directions, B, H)
    inputs = {"xs": leaf(T, B, I), "h_0": leaf(*start)}
    if kind == "LSTM":
        inputs["c_0"] = leaf(*start)
    states = (inputs["h_0"], inputs["c_0"]) if kind == "LSTM" else inputs["h_0"]

    packed = network.bidirectional
    xs = pack_padded_sequence(inputs["xs"], LENGTHS) if packed else inputs["xs"]
    ys, finals = torch.func.functional_call(network, weights, (xs, states))
    if packed:
        ys, _ = pad_packed_sequence(ys, total_length=T)
    finals = dict(zip(("h_n", "c_n"), finals if kind == "LSTM" else (finals,), strict=False))
    outputs = {"ys": ys, **finals}
    sum(out.square().sum() / 2 for out in outputs.values()).backward()

    arrays = {name: out.detach().numpy() for name, out in {**weights, **inputs, **outputs}.items()}
    arrays |= {f"grad/{name}": a.grad.numpy() for name, a in {**weights, **inputs}.items()}
    return arrays | ({"lengths": np.array(LENGTHS)} if packed else {})


if __name__ == "__main__":
    PATH.parent.mkdir(exist_ok=True)
    arrays: dict[str, Any] = reference()
    np.savez_compressed(PATH, allow_pickle=False, **arrays)
    print(f"{PATH}: {PATH.stat().st_size / 1000:.0f} kB")

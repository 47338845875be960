"""The page and the report: one file, the same bytes, text escaped; what it takes and refuses."""

import html.parser
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnn_jax
from rnn_jax import cells, gradients
from rnn_jax.reporting import Lines, Markdown, Table, page
from rnn_jax.reporting.markdown import html_of, joined_rows

FORM = r"^{}.*: got .*; expected .+\. [A-Z]"


class Elements(html.parser.HTMLParser):
    """Tags with their attributes, and the headings."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.headings, self.within = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.within = tag

    def handle_data(self, data):
        if self.within in ("h1", "h2", "h3", "title"):
            self.headings.append((self.within, data))
            self.within = ""


@pytest.fixture(scope="module")
def study():
    """Results of gradients of a cell of one's own, a batch of two sequences."""
    cell = cells.from_function(
        lambda p, h, x: ((a := jnp.tanh(p["W"] @ h + p["U"] @ x)), a), state=jnp.zeros(4)
    )
    params = {"W": 0.7 * jnp.eye(4), "U": jnp.ones((4, 2))}
    xs = jax.random.normal(jax.random.key(0), (12, 2, 2))
    loss = lambda y, target: ((y - target) ** 2).sum()
    return {
        "norms": gradients.jacobian_log_norms(cell, params, xs),
        "bounds": gradients.check_bounds(cell, params, xs),
        "loss_norms": gradients.decompose(cell, params, xs, jnp.zeros((12, 2, 4)), loss),
        "spectrum": gradients.lyapunov_spectrum(cell, params, xs),
    }


def test_the_report_of_a_users_own_cell(study, tmp_path):
    history = {
        "loss": jnp.linspace(1, 0, 7),
        "held_out": {"step": jnp.arange(2), "loss": jnp.ones(2)},
    }
    run = {"title": "My cell", **study, "history": history, "settings": {"T": 12}}
    file = rnn_jax.report(run, out=tmp_path / "report.html")
    first = file.read_text()
    found = Elements(first)
    assert ("title", "My cell") in found.headings
    assert [heading for level, heading in found.headings if level == "h2"] == [
        "Norms of ∂s_t/∂s_k over (t, k)",
        "Decay by lag, against bounds",
        "Norms of ∂E_t/∂s_k over (t, k)",
        "Lyapunov spectrum",
        "Learning curves",
        "Settings",
    ]
    for bound in ("bound Π‖J_i‖", "bound: comparison"):
        assert json.dumps(bound)[1:-1].replace("/", "\\u002f") in first or bound in first
    assert rnn_jax.report(run, out=tmp_path / "report.html").read_text() == first
    ids = [attrs["id"] for _, attrs in found.tags if "id" in attrs]
    assert len(set(ids)) == len(ids)
    labels = {attrs.get("for") for tag, attrs in found.tags if tag == "label"}
    controls = {attrs["id"] for tag, attrs in found.tags if tag in ("select", "input")}
    assert controls <= labels


def test_nothing_is_fetched():
    text = page("a", [Markdown("[a](https://example.org) ![b](https://example.org/b.png)")])
    own = lambda attrs: str(attrs.get("href", "data:")).startswith("data:") and "src" not in attrs
    tags = ("script", "link", "iframe", "img", "object")
    fetched = [attrs for tag, attrs in Elements(text).tags if tag in tags and not own(attrs)]
    # The page asks for an image that a text asks for; its own policy has no browser fetch it.
    assert [attrs.get("alt") for attrs in fetched] == ["b"]
    (policy,) = [a["content"] for tag, a in Elements(text).tags if "http-equiv" in a]
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_markup_in_text_is_text():
    bad = "</script><script>alert(1)</script>"
    lines = Lines(bad, bad, bad, {bad: [rnn_jax.reporting.Line(bad, np.ones(3))]}, note=bad)
    text = page(bad, [Markdown(f"# {bad}"), Table(bad, [bad], [[bad]]), lines])
    assert bad not in text
    assert "<script>alert" not in text


def test_rows_that_were_broken_for_width_are_one_again():
    table = "| a | b |\n|---|---|\n| one | 1 |\n| more | |\n| two | 2 |\n|  | 3 |\n| x\\|y | 4 |"
    assert joined_rows(table).splitlines()[2:] == [
        "| one more | 1 |",
        "| two | 2 3 |",
        "| x\\|y | 4 |",
    ]
    found = html_of(f"# Title\n\n{table}\n\n**NO** <b>")
    assert found.count("<tr>") == 4
    assert "<h2>Title</h2>" in found
    assert "x|y" in found
    assert "&lt;b&gt;" in found
    headers = "| a | b |\n|---|---|\n|  | 1 |"  # nothing above to go on with
    assert joined_rows(headers) == headers


@pytest.mark.parametrize(
    ("run", "argument", "error"),
    [
        (3, "run", ValueError),
        ({}, "run", ValueError),
        ({"norm": np.eye(2)}, "run", ValueError),
        ({"bounds": {}}, "run", ValueError),
        ({"norms": np.ones((2, 3))}, "run", ValueError),
        ({"norms": np.eye(2), "bounds": {"a": np.eye(3)}}, "run", ValueError),
        ({"norms": np.eye(2), "bounds": np.eye(2)}, "run", ValueError),
        ({"loss_norms": np.eye(2)}, "run", ValueError),
        ({"spectrum": 1.0}, "run", ValueError),
        ({"spectrum": "λ"}, "run", ValueError),
        ({"history": {"seconds": np.ones(3)}}, "run", ValueError),
        ({"history": np.ones(3)}, "run", ValueError),
        ({"settings": 3}, "run", ValueError),
        ({"panels": ["a"]}, "run", ValueError),
        ({"title": 3, "settings": {}}, "run", ValueError),
        ({"summary": 3}, "text", ValueError),
        ("no/such/folder", "run", FileNotFoundError),
    ],
)
def test_what_a_report_refuses(run, argument, error, tmp_path):
    with pytest.raises(error, match=FORM.format(argument)):
        rnn_jax.report(run, out=tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", b"{", "broken"),
        ("config.json", b"[]", "another kind"),
        ("numbers.npz", b"PK", "broken"),
    ],
)
def test_broken_files_are_named(name, content, said, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"^run: got .*{said}.*; expected .+\. [A-Z]"):
        rnn_jax.report(tmp_path)


def test_a_folder_with_only_some_of_the_files(tmp_path):
    np.savez(tmp_path / "numbers.npz", **{"a/loss": np.ones((3, 2)), "a": np.arange(2)})
    text = rnn_jax.report(tmp_path).read_text()
    assert "Learning curves" in text
    assert "Where this run comes from" not in text
    with pytest.raises(OSError, match=FORM.format("out")):
        rnn_jax.report(tmp_path, out=tmp_path / "no" / "report.html")


def test_without_plotly_it_is_said_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ImportError, match=r"plotly: got no such package; .*pip install"):
        rnn_jax.report({"settings": {"T": 1}}, out=tmp_path / "report.html")


def test_importing_the_library_imports_no_plotly():
    code = "import sys, rnn_jax; print(sorted({'plotly', 'markdown_it'} & set(sys.modules)))"
    code += "; import rnn_jax.reporting; print('plotly' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "False"]

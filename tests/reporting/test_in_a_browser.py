"""The report of a real run, in Chromium without a network: numbers, cursor, slider, widths."""

import jax
import numpy as np
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

import rnn_jax
from experiments import gradient_decay, train
from rnn_jax.reporting.norms_by_lag import by_lag
from tests.reporting.browser import browser, needs_browser, requested, resize

pytestmark = [needs_browser, pytest.mark.usefixtures("single_precision")]

TOY = {"hidden_size": 6, "seeds": 3, "T": 8, "batch_size": 4, "steps": 12, "cell": "elman"}
SMALL = {"task": "parity", "T": 4, "cell": "elman", "hidden_size": 4, "seeds": 2, "steps": 220}
SMALL |= {"evaluate_every": 110, "held_out_batches": 2, "solved": None, "telemetry": True}
LN10 = np.log(10)


@pytest.fixture(autouse=True, scope="module")
def single_precision(optax_promotes):
    with jax.enable_x64(False):
        yield


@pytest.fixture(scope="module")
def decay_run(tmp_path_factory, single_precision):
    out = tmp_path_factory.mktemp("runs") / "decay"
    gradient_decay.main(gradient_decay.Config(out=out, **TOY))
    return out


@pytest.fixture(scope="module")
def train_run(tmp_path_factory, single_precision):
    out = tmp_path_factory.mktemp("runs") / "train"
    train.main(train.Config(out=out, **SMALL))
    return out


@pytest.fixture(scope="module")
def driver():
    with browser() as driver:
        yield driver


def arrays_of(out):
    with np.load(out / "numbers.npz") as archive:
        return dict(archive)


def opened(driver, out, width=1280):
    """Open a run's report, and wait until all of its figures are drawn."""
    requested(driver)
    driver.get_log("browser")
    resize(driver, width)
    driver.get((out / "report.html").as_uri())
    drawn = "return document.querySelectorAll('.plot:not(.js-plotly-plot)').length === 0"
    WebDriverWait(driver, 20).until(lambda driver: driver.execute_script(drawn))


def panel_of(driver, heading):
    """Return the number of the panel below a heading."""
    (number,) = [
        element.get_attribute("id").removeprefix("heading-")
        for element in driver.find_elements("css selector", "h2[id^=heading]")
        if element.text == heading
    ]
    return number


def numbers_of(driver, number, key, trace=0):
    """Return an array of a trace as plotly draws it; None is a gap."""
    script = """
    const rows = document.getElementById("panel-" + arguments[0])._fullData[arguments[1]];
    const plain = a => ArrayBuffer.isView(a) || Array.isArray(a) ? Array.from(a, plain) : a;
    return plain(rows[arguments[2]]).map(row => Array.isArray(row)
      ? row.map(v => Number.isFinite(v) ? v : null) : Number.isFinite(row) ? row : null);
    """
    found = driver.execute_script(script, number, trace, key)
    return np.array(found, dtype=object).astype(float)


def shown_by_hovering(driver, number):
    """Return the text of the label beside the cursor."""
    labels = lambda driver: driver.find_elements("css selector", f"#panel-{number} .hovertext")
    WebDriverWait(driver, 5).until(labels)
    return labels(driver)[0].text


def test_it_opens_without_a_network_and_without_errors(driver, decay_run):
    opened(driver, decay_run)
    assert driver.title == "Report: gradient_decay"
    assert driver.find_element("css selector", "html").get_attribute("lang") == "en"
    assert driver.get_log("browser") == []
    asked = [url for url in requested(driver) if not url.startswith(("file:", "data:", "blob:"))]
    assert not asked
    text = driver.find_element("css selector", "main").text
    for said in ("Checks", "not judged", "Where this run comes from", "hidden_size", "commit"):
        assert said in text


def test_its_numbers_are_those_of_the_run(driver, decay_run):
    opened(driver, decay_run)
    numbers = arrays_of(decay_run)
    for heading, name in (
        ("Norms of ∂s_t/∂s_k over (t, k)", "measured"),
        ("Norms of ∂E_t/∂s_k over (t, k)", "loss_to_state"),
    ):
        number = panel_of(driver, heading)
        choice = Select(driver.find_element("id", f"control-{number}"))
        views = [option.text for option in choice.options]
        assert views == [f"elman, {phase}" for phase in gradient_decay.PHASES]
        for view in views:
            choice.select_by_visible_text(view)
            table = numbers[f"{view.replace(', ', '/')}/{name}"]
            t, k = numbers_of(driver, number, "y"), numbers_of(driver, number, "x")
            expected = np.where(k <= t[:, None], np.median(table, axis=0), np.nan)
            np.testing.assert_array_equal(numbers_of(driver, number, "customdata"), expected)
            found = numbers_of(driver, number, "z") * LN10
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
            # States from 0; the first loss is that of step 1.
            np.testing.assert_array_equal(t, np.arange(9)[-len(table[0]) :])
            np.testing.assert_array_equal(k, np.arange(9))


def test_the_decay_is_the_median_by_lag_beside_its_bounds(driver, decay_run):
    opened(driver, decay_run)
    numbers = arrays_of(decay_run)
    number = panel_of(driver, "Decay by lag, against bounds")
    traces = f"return document.getElementById('panel-{number}').data.map(trace => trace.name)"
    names = driver.execute_script(traces)
    for label, name in (
        ("measured, median and 10–90 %", "measured"),
        ("bound Π‖J_i‖", "product_bound"),
        ("bound (λ_W λ_φ)^(t−k)", "power_bound"),
    ):
        table = numbers[f"elman/before training/{name}"]
        found = numbers_of(driver, number, "customdata", names.index(label))
        np.testing.assert_array_equal(found, by_lag(table)[1])


def test_the_cursor_tells_t_k_and_the_value(driver, decay_run):
    opened(driver, decay_run)
    number = panel_of(driver, "Norms of ∂s_t/∂s_k over (t, k)")
    plot = driver.find_element("id", f"panel-{number}")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    at = driver.execute_script(
        """
        const {xaxis, yaxis} = arguments[0]._fullLayout;
        const box = arguments[0].getBoundingClientRect();
        return [xaxis._offset + xaxis.c2p(2) - box.width / 2,
                yaxis._offset + yaxis.c2p(6) - box.height / 2];
        """,
        plot,
    )
    ActionChains(driver).move_to_element_with_offset(plot, *map(round, at)).perform()
    text = shown_by_hovering(driver, number)
    table = arrays_of(decay_run)["elman/before training/measured"]
    value = np.median(table[:, 6, 2])
    assert "t = 6" in text
    assert "k = 2" in text
    assert f"ln: {value:.4f}" in text


def test_the_slider_goes_through_the_steps_of_training(driver, train_run):
    opened(driver, train_run)
    assert driver.get_log("browser") == []
    number = panel_of(driver, "Gradient at the states over training")
    slider = driver.find_element("id", f"control-{number}")
    drawn = lambda: driver.execute_script(
        f"return document.querySelectorAll('#panel-{number} .js-line')[0].getAttribute('d')"
    )
    norms = arrays_of(train_run)["metrics/state_log_norms"]  # [steps, seeds, T]
    paths = []
    for keys, step in (("", 0), (Keys.ARROW_RIGHT, 3), (Keys.END, 219), (Keys.HOME, 0)):
        slider.send_keys(keys)
        shown = driver.find_element("id", f"shown-{number}").text
        assert shown.startswith(f"{step} (")
        middle = np.percentile(norms[step], 50, axis=0, method="nearest")
        np.testing.assert_array_equal(numbers_of(driver, number, "customdata", 1), middle)
        np.testing.assert_array_equal(numbers_of(driver, number, "x", 1), [1, 2, 3, 4])
        paths.append(drawn())
    assert paths[0] == paths[3]
    assert len(set(paths)) == 3
    page = driver.find_element("css selector", "main").text
    assert "Every 3rd of 220 steps is shown, and the last; numbers.npz has all." in page


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_page(driver, decay_run, width):
    opened(driver, decay_run, width)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    wide = (
        "return [...document.querySelectorAll('.plot')].map(p => p.getBoundingClientRect().right)"
    )
    assert max(driver.execute_script(wide)) <= width
    # No text of a figure is cut by its frame, and frames are left room beside their legends.
    cut = """
    const out = [];
    for (const plot of document.querySelectorAll('.plot')) {
      const box = plot.getBoundingClientRect();
      for (const text of plot.querySelectorAll('.legendtext, .xtitle, .ytitle, .xtick, .ytick')) {
        const t = text.getBoundingClientRect();
        if (t.width && (t.left < box.left - 1 || t.right > box.right + 1
            || t.top < box.top - 1 || t.bottom > box.bottom + 1)) out.push(text.textContent);
      }
      const {xaxis, yaxis} = plot._fullLayout;
      if (yaxis._length < 150 || xaxis._length < 150) out.push('small frame in ' + plot.id);
    }
    return out;
    """
    assert driver.execute_script(cut) == []


def test_labels_are_text_and_not_code(driver, tmp_path):
    """In headings, legends, lists, hovering, Markdown and tables; and braces are no templates."""
    from rnn_jax.reporting import Axis, Heatmap, Line, Lines, Slider, Table

    code = "window.broken = 1"
    bad = f"<script>{code}</script><img src=x onerror='{code}'>%{{x}} {{t}} $a$ &amp;"
    axis = Axis(bad, bad)
    lines = [Line(bad, np.arange(3.0), band=(np.zeros(3), np.ones(3)))] * 2
    panels = [
        Heatmap(bad, bad, {bad: np.eye(3), f"{bad} 2": np.eye(3)}, axis, axis, note=bad),
        Lines(bad, bad, bad, {bad: lines, "other": lines}, note=bad),
        Slider(bad, axis, bad, np.arange(2), np.ones((2, 3)), note=bad),
        Table(bad, [bad, bad], [[bad, bad]], note=bad),
    ]
    run = {"title": bad, "summary": f"# {bad}\n\n| {bad} | b |\n|---|---|\n| {bad} | {bad} |\n"}
    rnn_jax.report({**run, "panels": panels, "settings": {bad: bad}}, out=tmp_path / "report.html")
    opened(driver, tmp_path)
    assert driver.get_log("browser") == []
    assert driver.execute_script("return window.broken === undefined")
    assert driver.title == bad
    assert driver.find_element("css selector", "#heading-2").text == bad
    driver.execute_script(
        "Plotly.Fx.hover(document.getElementById('panel-2'), [{xval: 1, yval: 1}])"
    )
    label = driver.find_element("css selector", "#panel-2 .hovertext").text
    assert "<script>" in label
    assert "%{x} {t} $a$ &amp;" in label


def test_gaps_of_own_arrays_are_drawn_and_said(driver, tmp_path):
    """Arrays with −∞, NaN and underflow, one network; T = 1 beside it."""
    norms = np.where(np.tri(5), -800.0 * np.subtract.outer(np.arange(5), np.arange(5)), -np.inf)
    norms[3, 1], norms[4, 0] = np.nan, -np.inf
    rnn_jax.report({"norms": {"a": norms}, "bounds": {}}, out=tmp_path / "report.html")
    opened(driver, tmp_path)
    number = panel_of(driver, "Norms of ∂s_t/∂s_k over (t, k)")
    text = driver.find_element("id", f"section-{number}").text
    assert "of 15 numbers 1 is 0 (its logarithm is −∞), 1 is NaN" in text
    z = numbers_of(driver, number, "z") * LN10
    expected = np.where(np.isfinite(norms) & (np.tri(5) > 0), norms, np.nan)
    np.testing.assert_allclose(z, expected, rtol=1e-6)
    for T in (1, 2):
        tiny = np.where(np.tri(T + 1), 0.0, -np.inf)
        rnn_jax.report({"norms": tiny, "bounds": {"product": tiny}}, out=tmp_path / "report.html")
        opened(driver, tmp_path)
        assert driver.get_log("browser") == []


def test_the_report_of_a_folder_is_that_of_its_run(decay_run, tmp_path):
    """From the files alone, and the same bytes each time."""
    written = (decay_run / "report.html").read_bytes()
    again = rnn_jax.report(decay_run, out=tmp_path / "again.html")
    assert again.read_bytes() == written
    moved = decay_run.rename(tmp_path / "moved")
    try:
        assert rnn_jax.report(str(moved)) == moved / "report.html"
        assert (moved / "report.html").read_bytes() == written
    finally:
        moved.rename(decay_run)

"""The palette for protanopes, deuteranopes and in grey: distances that are measured."""

import itertools

import numpy as np
import pytest
from colorspacious import cspace_convert
from matplotlib.colors import to_rgb

from rnn_jax.plotting import PALETTE
from rnn_jax.plotting._palette import arm_line, arm_marker, shade

LEAST = {"none": 28.0, "protanomaly": 23.0, "deuteranomaly": 25.5, "grey": 8.9}
"""Measured: 28.2, 23.1 and 25.9 in CAM02-UCS, and 9.0 of its lightness J' in grey."""


def seen(colors, how):
    """sRGB colours `[n, 3]` as somebody sees them."""
    rgb = np.array([to_rgb(color) for color in colors])
    if how == "none":
        return rgb
    if how == "grey":
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        Y = linear @ [0.2126, 0.7152, 0.0722]
        grey = np.where(Y <= 0.0031308, 12.92 * Y, 1.055 * Y ** (1 / 2.4) - 0.055)
        return np.stack([grey] * 3, -1)
    space = {"name": "sRGB1+CVD", "cvd_type": how, "severity": 100}
    return np.clip(cspace_convert(rgb, space, "sRGB1"), 0, 1)


def least_distance(colors, how):
    """The least distance in CAM02-UCS between two colours; in grey, that of lightness J'."""
    places = cspace_convert(seen(colors, how), "sRGB1", "CAM02-UCS")
    if how == "grey":
        places = places[:, :1]
    return min(np.linalg.norm(a - b) for a, b in itertools.combinations(places, 2))


@pytest.mark.parametrize("how", LEAST)
def test_any_two_colours_are_told_apart(how):
    assert len(PALETTE) == 7
    assert least_distance(PALETTE, how) >= LEAST[how]


@pytest.mark.parametrize("how", LEAST)
def test_the_colours_of_matplotlib_would_not_do(how):
    default = [f"C{n}" for n in range(7)]
    assert least_distance(default, how) < LEAST[how]


def test_none_fades_on_white():
    lightness = cspace_convert(seen([*PALETTE, shade(29, 30)], "none"), "sRGB1", "CAM02-UCS")[:, 0]
    assert lightness.max() < 90
    assert lightness[:-1].max() < 72


def test_lines_and_markers_tell_arms_apart_without_colours():
    looks = [(str(arm_line(n)), arm_marker(n)) for n in range(50)]
    assert len(set(looks)) == 50
    assert len({str(arm_line(n)) for n in range(5)}) == 5


def test_many_arms_are_in_the_order_of_their_lightness():
    grey = cspace_convert(seen([shade(n, 20) for n in range(20)], "grey"), "sRGB1", "CAM02-UCS")
    assert (np.diff(grey[:, 0]) > 0).all()

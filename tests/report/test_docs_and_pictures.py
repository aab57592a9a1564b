"""The page about the report names every template; the script of the pictures reads PNGs as they are."""

from __future__ import annotations

import importlib.util
import re
import struct
import zlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tuneshift.resources import data_folder

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_page_about_the_report_names_every_template() -> None:
    table = (DOCS / "report.md").read_text(encoding="utf-8").split("| template | shows |")[1]
    named = set(re.findall(r"`([\w.]+\.(?:html|css|js))`", table))
    assert named == {path.name for path in (data_folder("reports") / "templates").iterdir()}


def test_the_pictures_are_small_and_of_both_schemes_and_widths() -> None:
    pictures = {path.name: path.stat().st_size for path in (DOCS / "images").glob("report-*.png")}
    assert set(pictures) == {f"report-{width}-{scheme}.png" for width in (1280, 390) for scheme in ("light", "dark")}
    assert max(pictures.values()) < 150_000


@pytest.fixture(scope="module")
def screenshots() -> ModuleType:
    """The script, which lies outside the package."""
    spec = importlib.util.spec_from_file_location("screenshots", DOCS / "screenshots.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def filtered(rgb: np.ndarray, kind: int) -> bytes:
    """A picture's rows under one PNG filter, written out as the standard has it."""
    height, width, channels = rgb.shape
    lines = []
    for r in range(height):
        line = [kind]
        for c in range(width):
            for k in range(channels):
                left = int(rgb[r, c - 1, k]) if c else 0
                up = int(rgb[r - 1, c, k]) if r else 0
                corner = int(rgb[r - 1, c - 1, k]) if r and c else 0
                guess = left + up - corner
                nearest = min((left, up, corner), key=lambda value, guess=guess: abs(guess - value))
                taken = (0, left, up, (left + up) // 2, nearest)[kind]
                line.append((int(rgb[r, c, k]) - taken) % 256)
        lines.append(bytes(line))
    return b"".join(lines)


def png(rgb: np.ndarray, kind: int) -> bytes:
    """A PNG of 8-bit RGB or RGBA."""
    height, width, channels = rgb.shape
    header = struct.pack(">IIBBBBB", width, height, 8, {3: 2, 4: 6}[channels], 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(filtered(rgb, kind))), (b"IEND", b""))
    framed = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("kind", range(5))
def test_every_filter_of_a_png_is_undone(screenshots: ModuleType, kind: int, channels: int) -> None:
    rgb = np.random.default_rng(kind).integers(0, 256, size=(6, 9, channels))
    assert np.array_equal(screenshots.pixels(png(rgb, kind)), rgb[:, :, :3])


def test_a_picture_keeps_its_frequent_colours_and_the_odd_ones(screenshots: ModuleType, tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(100, 120, size=(60, 60, 3))
    rgb[:20] = (251, 251, 249)
    rgb[30, :6] = (122, 83, 0)
    picture = tmp_path / "picture.png"
    picture.write_bytes(png(rgb, 0))
    screenshots.reduced(picture)
    parts = screenshots.chunks(picture.read_bytes())
    palette = np.frombuffer(parts[b"PLTE"], dtype=np.uint8).reshape(-1, 3)
    lines = np.frombuffer(zlib.decompress(parts[b"IDAT"]), dtype=np.uint8).reshape(60, 61)[:, 1:]
    seen = palette[lines].astype(int)
    assert len(palette) == 256
    assert (seen[:20] == (251, 251, 249)).all()
    assert (seen[30, :6] == (122, 83, 0)).all()
    assert np.abs(seen - rgb).max() <= 10

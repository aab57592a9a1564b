"""Screenshots of an HTML report in headless Chromium: light and dark, wide and narrow.

    python docs/screenshots.py tuneshift-results/report.html OUT_FOLDER [--chromium PATH] [--height PIXELS]

Writes ``NAME-{1280,390}-{light,dark}.png`` and prints each path and its size. The whole page is in the picture: the
height is that of the laid-out page unless ``--height`` cuts it. Pictures are reduced to 256 colours, which a page of
text does not miss and which halves them. Those of docs/images are of the embedded pair:

    make suites
    python docs/screenshots.py tuneshift-results/report.html docs/images --height 1000
"""

from __future__ import annotations

import argparse
import re
import shutil
import struct
import subprocess
import tempfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

WIDTHS = (1280, 390)
SCHEMES = {"light": 1, "dark": 0}
"""Blink's numbers for the preferred colour scheme."""
TALLEST = 16_000
"""Pixels; Chromium's software rasteriser draws no picture beyond 16,384."""
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
)
# The page's script policy lets no probe in, so a frame around the page measures it and reports through the title.
# Headless windows are never narrower than 500 pixels; the frame has the width that is asked for.
FRAME = """<!doctype html><title>0</title><style>html,body{{margin:0}}iframe{{border:0;display:block;width:{width}px;
height:{height}px}}</style><iframe src="{url}" onload="document.title='h'+
this.contentDocument.documentElement.scrollHeight"></iframe>"""


def chromium(binary: str, scheme: str, *arguments: str) -> str:
    """Standard output of one headless run in a fresh profile."""
    with tempfile.TemporaryDirectory(prefix="tuneshift-chromium-") as profile:
        command = [binary, *FLAGS, f"--user-data-dir={profile}", "--allow-file-access-from-files"]
        command += [f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def page_height(binary: str, report: Path, width: int) -> int:
    """Height in pixels of the report laid out at a width."""
    with tempfile.TemporaryDirectory() as folder:
        frame = Path(folder) / "frame.html"
        frame.write_text(FRAME.format(width=width, height=900, url=report.as_uri()), encoding="utf-8")
        page = chromium(binary, "light", "--dump-dom", frame.as_uri())
    found = re.search(r"<title>h(\d+)</title>", page)
    if not found:
        raise SystemExit(f"Chromium did not lay out {report}; open it in a window to see why.")
    return min(int(found[1]), TALLEST)


def shoot(binary: str, report: Path, out: Path, width: int, scheme: str, height: int) -> Path:
    """One picture of the report."""
    picture = out / f"{report.stem}-{width}-{scheme}.png"
    with tempfile.TemporaryDirectory() as folder:
        frame = Path(folder) / "frame.html"
        frame.write_text(FRAME.format(width=width, height=height, url=report.as_uri()), encoding="utf-8")
        size = f"--window-size={width},{height}"
        chromium(binary, scheme, size, f"--screenshot={picture}", frame.as_uri())
    return picture


def chunks(png: bytes) -> dict[bytes, bytes]:
    """The chunks of a PNG by name, those of one name joined (ISO/IEC 15948)."""
    found: dict[bytes, bytes] = {}
    at = 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        name = png[at + 4 : at + 8]
        found[name] = found.get(name, b"") + png[at + 8 : at + 8 + length]
        at += 12 + length
    return found


def unfiltered_row(kind: int, row: npt.NDArray[np.int64], above: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """A row [pixel, channel] of a PNG without its filter, from the row above it."""
    if kind == 0:
        return row
    if kind == 2:
        return (row + above) % 256
    if kind == 1:
        return np.cumsum(row, axis=0) % 256
    done = np.zeros_like(row)
    left, corner = np.zeros(row.shape[1], dtype=np.int64), np.zeros(row.shape[1], dtype=np.int64)
    for k, (value, up) in enumerate(zip(row, above, strict=True)):
        if kind == 3:
            guess = (left + up) // 2
        else:
            distances = np.abs([up - corner, left - corner, left + up - 2 * corner])
            guess = np.choose(np.argmin(distances, axis=0), [left, up, corner])
        left = done[k] = (value + guess) % 256
        corner = up
    return done


def pixels(png: bytes) -> npt.NDArray[np.int64]:
    """The colours [row, column, channel] of an 8-bit RGB or RGBA picture."""
    parts = chunks(png)
    width, height, depth, colours = struct.unpack(">IIBB", parts[b"IHDR"][:10])
    if depth != 8 or colours not in (2, 6):
        raise SystemExit(f"Chromium wrote a picture of depth {depth} and colour type {colours}; 8-bit RGB is needed.")
    channels = 3 if colours == 2 else 4
    raw = np.frombuffer(zlib.decompress(parts[b"IDAT"]), dtype=np.uint8).reshape(height, 1 + width * channels)
    rows = [np.zeros((width, channels), dtype=np.int64)]
    for line in raw:
        rows.append(unfiltered_row(line[0], line[1:].astype(np.int64).reshape(width, channels), rows[-1]))
    return np.stack(rows[1:])[:, :, :3]


def palette(parts: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> list[int]:
    """Which 256 colours to keep: the most frequent 64, then one by one the colour that the others serve worst."""
    kept = np.argsort(-counts, kind="stable")[:64].tolist()
    distances = np.min([((parts - parts[k]) ** 2).sum(1) for k in kept], axis=0)
    while len(kept) < min(256, len(parts)):
        kept.append(int(np.argmax(distances * counts)))
        distances = np.minimum(distances, ((parts - parts[kept[-1]]) ** 2).sum(1))
    return kept


def reduced(picture: Path) -> None:
    """Rewrite a picture with 256 of its colours, every other one as the nearest of them."""
    rgb = pixels(picture.read_bytes())
    height, width, _ = rgb.shape
    codes = (rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]).ravel()
    colours, places, counts = np.unique(codes, return_inverse=True, return_counts=True)
    parts = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1)
    kept = parts[palette(parts, counts)]
    nearest = np.array([np.argmin(((kept - colour) ** 2).sum(1)) for colour in parts], dtype=np.uint8)
    lines = nearest[places].reshape(height, width)
    body = b"".join(b"\0" + line.tobytes() for line in lines)
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    written = [
        (b"IHDR", header),
        (b"PLTE", kept.astype(np.uint8).tobytes()),
        (b"IDAT", zlib.compress(body, 9)),
        (b"IEND", b""),
    ]
    picture.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in written)
    )


def main() -> None:
    """Read the options and take the four pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
    parser.add_argument("--height", type=int)
    options = parser.parse_args()
    if not options.chromium:
        parser.error("no chromium on PATH; name one with --chromium")
    report = options.report.resolve(strict=True)
    options.out.mkdir(parents=True, exist_ok=True)
    for width in WIDTHS:
        height = options.height or page_height(options.chromium, report, width)
        for scheme in SCHEMES:
            picture = shoot(options.chromium, report, options.out.resolve(), width, scheme, height)
            reduced(picture)
            print(f"{picture} {picture.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()

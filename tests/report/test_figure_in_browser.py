"""Figures in a real browser: maps by pointer and by keys, hostile labels."""

from __future__ import annotations

import pytest
from chromium import in_chromium, needs_chromium
from run_records import claim, example, record
from sample_figures import curves, dots, grid, hostile_figures, realistic, words

PROBE = """
  const maps = [...d.querySelectorAll(".map")], map = maps[0];
  const out = map.closest("figure").querySelector(".readout");
  seen.before = [out.hidden, out.textContent];
  const at = (plane, r, c, rows, columns) => {
    const box = plane.getBoundingClientRect();
    const [clientX, clientY] = [box.left + box.width * (c + 0.5) / columns, box.top + box.height * (r + 0.5) / rows];
    plane.dispatchEvent(new w.PointerEvent("pointermove", { clientX, clientY, bubbles: true }));
  };
  at(map.querySelector(".plane"), 3, 5, 32, 32);
  seen.pointed = out.textContent;
  const [cursor, plane] = [".cursor", ".plane"].map((name) => map.querySelector(name).getBoundingClientRect());
  seen.cursor = [(cursor.left - plane.left) / plane.width * 32, (cursor.top - plane.top) / plane.height * 32];
  const key = (key) => map.dispatchEvent(new w.KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  seen.kept = [key("ArrowDown"), key("ArrowLeft"), key("x")];
  seen.moved = out.textContent;
  for (let k = 0; k < 40; k++) key("ArrowUp");
  seen.edge = out.textContent;
  key("Escape");
  seen.left = [out.textContent, map.querySelectorAll(".cursor").length];
  const sort = map.closest("figure").querySelector("table.sortable");
  d.querySelectorAll("details").forEach((part) => { part.open = true; });
  sort.tHead.rows[0].cells[0].firstChild.click();
  seen.sorted = [...sort.tBodies[0].rows].map((row) => Number(row.cells[0].textContent));
  at(map.querySelector(".plane"), 3, 5, 32, 32);
  seen.again = out.textContent;
  const big = maps[maps.length - 1];
  at(big.querySelector(".plane"), 0, 0, 101, 100);
  seen.big = big.closest("figure").querySelector(".readout").textContent;
  seen.images = [...d.images].map((image) => [image.naturalWidth, image.naturalHeight]);
  seen.overflow = {};
  for (const width of [320, 390, 700, 900, 1280]) {
    f.style.width = `${width}px`;
    seen.overflow[width] = d.documentElement.scrollWidth - d.documentElement.clientWidth;
  }
  finish(seen);
"""


@pytest.mark.numerics
@needs_chromium
def test_in_a_browser_a_map_tells_its_cells_by_pointer_and_by_keys(tmp_path):
    figure = grid(32, 32)
    figure["values"][3][5], figure["values"][4][4], figure["values"][0][4] = 42, -7.5, None
    figure["notes"][3][5] = "write <b>– compose"
    seen, console = in_chromium(
        tmp_path, record([claim(figures=[figure, dots(), curves(), words(), grid(101, 100)])]), PROBE
    )
    assert console == ""
    assert seen["before"] == [False, "Point at a cell, or reach the map with Tab and move with the arrow keys."]
    assert seen["pointed"] == seen["again"] == "layer 3, head 5: 42. write <b>– compose"
    assert seen["cursor"] == pytest.approx([5, 3], abs=0.05)  # pixels, as the browser lays them
    # Arrow keys move the cell and not the page; other keys do what they always do.
    assert seen["kept"] == [False, False, True]
    assert seen["moved"].startswith("layer 4, head 4: −7.50")
    assert seen["edge"].startswith("layer 0, head 4: –")
    assert seen["left"] == [seen["before"][1], 0]
    assert seen["sorted"] == sorted(seen["sorted"])
    assert seen["big"].startswith("layer ")
    assert seen["images"] == [[13, 1], [100, 101]]
    assert {width: by for width, by in seen["overflow"].items() if by > 0} == {}


OVERFLOW = """
  for (const part of d.querySelectorAll("details")) part.open = true;
  setTimeout(() => {
    seen.title = d.title;
    seen.overflow = {};
    for (const width of [320, 390, 700, 900, 1280]) {
      f.style.width = `${width}px`;
      seen.overflow[width] = d.documentElement.scrollWidth - d.documentElement.clientWidth;
    }
    finish(seen);
  }, 300);
"""


@needs_chromium
@pytest.mark.parametrize("hostile", [False, True])
def test_in_a_browser_nothing_breaks(tmp_path, hostile):
    held = record([claim(figures=hostile_figures() if hostile else realistic())], [example()])
    seen, console = in_chromium(tmp_path, held, OVERFLOW)
    assert console == ""
    assert seen["title"].startswith("tuneshift: ")
    assert {width: by for width, by in seen["overflow"].items() if by > 0} == {}


LEVELS = """
  const map = d.querySelector(".levels .map"), plane = map.querySelector(".plane");
  const out = map.closest("figure").querySelector(".readout");
  const box = plane.getBoundingClientRect();
  seen.told = [[0, 0], [0, 2], [1, 0], [2, 1]].map(([r, c]) => {
    const [clientX, clientY] = [box.left + box.width * (c + 0.5) / 3, box.top + box.height * (r + 0.5) / 3];
    plane.dispatchEvent(new w.PointerEvent("pointermove", { clientX, clientY, bubbles: true }));
    return out.textContent;
  });
  finish(seen);
"""


@needs_chromium
def test_in_a_browser_a_map_of_levels_reads_them_from_its_picture(tmp_path):
    row = example(["▁Re", "write", "<b>"])
    held = {"response_tokens": ["▁Here", "▁it", "▁is"], "levels": ["05a", "900", "071"]}
    row |= {"models": [model | held for model in row["models"]]}
    seen, console = in_chromium(tmp_path, record([claim()], [row]), LEVELS)
    assert console == ""
    assert seen["told"] == [
        "prompt Re, response Here: level 0 of 10",
        "prompt Re, response is: level 10 of 10",
        "prompt write, response Here: level 9 of 10",
        "prompt <b>, response it: level 7 of 10",
    ]

"""The report in a real browser: nothing breaks, nothing hostile runs, and its script does what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from chromium import in_chromium, needs_chromium
from run_records import HOSTILE, claim, compared_record, example, full_record, hostile_record, many_pairs_record, record

WHOLE_PAGE = """
  seen.title = d.title;
  const swatches = [...d.querySelectorAll("#prompts .swatches span")];
  seen.swatches = new Set(swatches.map((one) => w.getComputedStyle(one).backgroundColor)).size;
  const button = d.getElementById("theme");
  seen.button = !button.hidden;
  const before = w.getComputedStyle(d.body).backgroundColor;
  button.click();
  seen.themes = [before, w.getComputedStyle(d.body).backgroundColor];
  for (const part of d.querySelectorAll("details")) part.open = true;
  setTimeout(() => {
    seen.overflow = {};
    for (const width of [320, 390, 700, 760, 900, 1090, 1280]) {
      f.style.width = `${width}px`;
      seen.overflow[width] = d.documentElement.scrollWidth - d.documentElement.clientWidth;
    }
    const closed = () => d.querySelectorAll("details.claim:not([open]), details.example:not([open])").length;
    d.querySelectorAll("details[open]").forEach((part) => { part.open = false; });
    seen.printing = [closed() > 0];
    w.dispatchEvent(new w.Event("beforeprint"));
    seen.printing.push(closed() === 0);
    w.dispatchEvent(new w.Event("afterprint"));
    seen.printing.push(closed() > 0);
    w.location.hash = d.querySelector("details.claim").id;
    setTimeout(() => {
      seen.revealed = d.querySelector("details.claim").open;
      seen.scripts = [...d.scripts].map((script) => script.type);
      finish(seen);
    }, 200);
  }, 300);
"""


@needs_chromium
@pytest.mark.parametrize("build", [full_record, hostile_record, many_pairs_record, compared_record])
def test_in_a_browser_nothing_breaks(tmp_path: Path, build: Any) -> None:
    seen, console = in_chromium(tmp_path, build(), WHOLE_PAGE)
    assert console == ""
    assert seen["title"].startswith("tuneshift: ")
    assert seen["button"], "our own script did not run: is its hash in the policy?"
    assert seen["themes"][0] != seen["themes"][1]
    assert {width: by for width, by in seen["overflow"].items() if by > 0} == {}
    assert seen["revealed"]
    assert seen["printing"] == [True, True, True]
    assert seen["scripts"] == ["application/json", ""]
    assert seen["swatches"] == (0 if build is compared_record else 11)


VALUES = """
  const part = d.querySelector("details.values");
  const rows = () => [...part.querySelectorAll("tbody tr")].filter((row) => row.checkVisibility());
  seen.before = part.querySelectorAll("tbody tr").length;
  part.open = true;
  setTimeout(() => {
    seen.whole = rows().map((row) => [...row.cells].map((cell) => cell.textContent));
    part.querySelectorAll("thead button")[1].click();
    seen.sorted = rows().map((row) => parseFloat(row.cells[1].textContent.replace("\\u2212", "-")));
    seen.pressed = part.querySelectorAll("thead th")[1].getAttribute("aria-sort");
    const field = part.querySelector("input");
    field.value = "TASK_7";
    field.dispatchEvent(new w.Event("input"));
    seen.found = rows().map((row) => row.cells[0].textContent);
    const item = d.getElementById("item");
    item.dispatchEvent(new w.Event("focus"));
    seen.offered = d.getElementById("items").children.length;
    item.value = "task_7";
    item.dispatchEvent(new w.Event("input"));
    seen.looked = [...d.querySelectorAll("#item-values tbody tr")].map((row) => row.textContent);
    item.value = "nothing";
    item.dispatchEvent(new w.Event("input"));
    seen.none = d.getElementById("item-values").textContent;
    finish(seen);
  }, 300);
"""


@needs_chromium
def test_the_whole_table_of_values_is_made_when_it_is_opened(tmp_path: Path) -> None:
    x = [round(0.25 * k - 2, 6) for k in range(40)]
    ids = [f"task_{k}" for k in range(40)]
    values = {"base": {"ids": ids, "x": x}, "tuned": {"ids": ids, "x": [2 * v for v in x]}}
    claims = [claim(values=values), claim("x2024.other", pair="second", values=values)]
    seen, console = in_chromium(tmp_path, record(claims), VALUES)
    assert console == ""
    assert seen["before"] == 6
    assert len(seen["whole"]) == 40
    assert seen["whole"][0] == ["task_0", "−2", "−4", "−2"]
    assert seen["whole"][7] == ["task_7", "−0.250", "−0.500", "−0.250"]
    assert seen["sorted"] == sorted(x)
    assert seen["pressed"] == "ascending"
    assert seen["found"] == ["task_7"]
    assert seen["offered"] == 40
    assert len(seen["looked"]) == 2
    assert all("base −0.250, tuned −0.500" in text for text in seen["looked"])
    assert seen["none"] == "No claim has an item of this name."


HOSTILE_VALUES = """
  for (const part of d.querySelectorAll("details.claim")) part.open = true;
  for (const part of d.querySelectorAll("details.values")) part.open = true;
  setTimeout(() => {
    const made = [...d.querySelectorAll("details.values table")];
    seen.ids = made.map((table) => table.tBodies[0].rows[0].cells[0].textContent);
    seen.elements = made.map((table) => table.querySelectorAll("script, img, svg, style").length);
    seen.title = d.title;
    seen.width = d.documentElement.scrollWidth - d.documentElement.clientWidth;
    finish(seen);
  }, 300);
"""


@needs_chromium
def test_hostile_ids_stay_text_in_tables_that_the_script_makes(tmp_path: Path) -> None:
    claims = []
    for k, text in enumerate(HOSTILE):
        values = {side: {"ids": [f"{text}{i}" for i in range(20)], "x": [0.1] * 20} for side in ("base", "tuned")}
        claims.append(claim(f"x2024.{k}", values=values))
    seen, console = in_chromium(tmp_path, record(claims), HOSTILE_VALUES)
    assert console == ""
    assert seen["title"].startswith("tuneshift: ")
    assert seen["ids"][0] == "<script>document.title='owned'</script>0"
    assert set(seen["elements"]) == {0}
    assert seen["width"] <= 0


FILTER = """
  const filter = d.getElementById("filter");
  filter.value = "PAIR-3 reproduced";
  filter.dispatchEvent(new w.Event("input"));
  const rows = [...d.querySelectorAll("tr[data-claim]")].filter((row) => row.checkVisibility());
  seen.filtered = rows.map((row) => row.textContent);
  finish(seen);
"""


@needs_chromium
def test_the_filter_keeps_claims_that_hold_every_word(tmp_path: Path) -> None:
    seen, console = in_chromium(tmp_path, many_pairs_record(), FILTER)
    assert console == ""
    assert len(seen["filtered"]) == 2
    assert all("pair-3" in text and "reproduced" in text for text in seen["filtered"])


FILTER_OF_ONE_PAIR = """
  const filter = d.getElementById("filter");
  const shown = () => [...d.querySelectorAll("tr[data-claim]")].filter((row) => row.checkVisibility()).length;
  for (const word of ["x2024.n1", "nothing like it", ""]) {
    filter.value = word;
    filter.dispatchEvent(new w.Event("input"));
    seen[word] = shown();
  }
  finish(seen);
"""


@needs_chromium
def test_the_filter_of_a_single_pair_hides_rows_and_brings_them_back(tmp_path: Path) -> None:
    seen, console = in_chromium(tmp_path, record([claim(f"x2024.n{k}") for k in range(14)]), FILTER_OF_ONE_PAIR)
    assert console == ""
    assert seen == {"x2024.n1": 5, "nothing like it": 0, "": 14}  # n1 and n10 to n13


# A sandbox keeps the report's script from running; the frame's own script looks at what is left.
WITHOUT_SCRIPT = """
  if (!f.sandbox.length) {
    f.sandbox = "allow-same-origin";
    f.src = f.src;
    return;
  }
  for (const part of d.querySelectorAll("details")) part.open = true;
  seen.button = d.getElementById("theme").checkVisibility();
  seen.text = d.body.innerText;
  seen.rows = d.querySelectorAll("details.values tbody tr").length;
  finish(seen);
"""


@needs_chromium
def test_without_javascript_verdicts_figures_and_extremes_can_be_read(tmp_path: Path) -> None:
    held = record([claim(), claim("x2024.b", shift=-0.9)], [example()])
    seen, _ = in_chromium(tmp_path, held, WITHOUT_SCRIPT)
    assert not seen["button"], "the script ran: this test saw nothing"
    assert seen["rows"] == 12
    told = ("contradicted", "98.75 % interval", "Departs from the paper", "task_", "Repeat with", "Here is a shorter")
    assert [words for words in told if words not in seen["text"]] == []

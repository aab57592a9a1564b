"use strict";
(() => {
  const root = document.documentElement;

  // Light and dark: the system decides until the reader does.
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const name = () => { button.textContent = dark() ? "Light" : "Dark"; };
  try {
    const kept = localStorage.getItem("tuneshift-theme");
    if (kept === "light" || kept === "dark") root.dataset.theme = kept;
  } catch { /* a file without storage keeps no choice */ }
  button.hidden = false;
  name();
  system.addEventListener("change", name);
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("tuneshift-theme", root.dataset.theme); } catch { /* as above */ }
    name();
  });

  // A link to a claim opens it.
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    if (target && target.tagName === "DETAILS") target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  if (location.hash) reveal();

  // On paper every claim and prompt is open; data tables stay as they are.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details.claim:not([open]), details.example:not([open])")];
    for (const part of closed) part.open = true;
  });
  addEventListener("afterprint", () => { for (const part of closed) part.open = false; });

  // Sortable tables: a button in each column head.
  const value = (row, k) => {
    const text = row.cells[k].textContent.trim();
    const x = parseFloat(text.replace("\u2212", "-").replaceAll(",", ""));
    return Number.isNaN(x) ? text : x;
  };
  const words = new Intl.Collator("en", { numeric: true });
  const compare = (a, b) => {
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return typeof a === "number" ? a - b : words.compare(a, b);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, k) => {
      const sort = document.createElement("button");
      sort.type = "button";
      sort.textContent = head.textContent;
      head.replaceChildren(sort);
      sort.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const rows = [...table.tBodies[0].rows].map((row) => [k ? value(row, k) : row.cells[0].textContent, row]);
        rows.sort((a, b) => (up ? compare(a[0], b[0]) : compare(b[0], a[0])));
        table.tBodies[0].append(...rows.map((pair) => pair[1]));
      });
    });
  }

  // A map tells the cell under the pointer, or the one that arrow keys reached; the tables behind it know the values.
  for (const map of document.querySelectorAll(".map")) {
    const figure = map.closest("figure");
    const [plane, out] = [map.querySelector(".plane"), figure.querySelector(".readout")];
    const [rows, columns] = [Number(map.dataset.rows), Number(map.dataset.columns)];
    const matrix = figure.querySelector("table.matrix");
    const listed = new Map([...figure.querySelectorAll("tr[data-k]")].map((row) => [Number(row.dataset.k), row]));
    const cursor = document.createElement("span");
    cursor.className = "cursor";
    const hint = "Point at a cell, or reach the map with Tab and move with the arrow keys.";
    let [r, c] = [-1, -1];
    const texts = () => {
      const row = listed.get(r * columns + c);
      const told = row ? [...row.cells].map((cell) => cell.textContent) : ["", "", "", "cut" in map.dataset ? "If it has a note, the run record holds it" : ""];
      if (!matrix) return row ? told : [`${r + 1} of ${rows}`, `${c + 1} of ${columns}`, "not among the listed", ""];
      const line = matrix.tBodies[0].rows[r].cells;
      return [line[0].textContent, matrix.tHead.rows[0].cells[c + 1].textContent, line[c + 1].textContent, told[3]];
    };
    const tell = (row, column) => {
      const [to, across] = [Math.min(Math.max(row, 0), rows - 1), Math.min(Math.max(column, 0), columns - 1)];
      if (to === r && across === c) return;
      [r, c] = [to, across];
      cursor.style.cssText = `left:${100 * c / columns}%;top:${100 * r / rows}%;width:${100 / columns}%;height:${100 / rows}%`;
      plane.append(cursor);
      const [first, second, exact, note] = texts();
      const strong = document.createElement("strong");
      strong.textContent = exact;
      out.replaceChildren(`${map.dataset.row} ${first}, ${map.dataset.column} ${second}: `, strong, note ? `. ${note}` : "");
    };
    const leave = () => { [r, c] = [-1, -1]; cursor.remove(); out.textContent = hint; };
    out.hidden = false;
    leave();
    plane.addEventListener("pointermove", (event) => {
      const box = plane.getBoundingClientRect();
      tell(Math.floor((event.clientY - box.top) / box.height * rows), Math.floor((event.clientX - box.left) / box.width * columns));
    });
    map.addEventListener("focus", () => { if (r < 0 && map.matches(":focus-visible")) tell(0, 0); });
    map.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (event.key === "Escape") leave();
      if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      tell(r + step[0], c + step[1]);
    });
  }

  // The filter of the verdict table keeps rows whose text, or whose finding's name, holds every word.
  const filter = document.getElementById("filter");
  if (filter) {
    filter.parentElement.hidden = false;
    filter.addEventListener("input", () => {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const body of document.querySelectorAll("table.verdicts tbody")) {
        const head = body.rows[0].textContent.toLowerCase();
        let left = 0;
        for (const row of [...body.rows].slice(1)) {
          const text = `${head} ${row.textContent.toLowerCase()}`;
          row.hidden = !words.every((word) => text.includes(word));
          left += !row.hidden;
        }
        body.hidden = !left;
      }
    });
  }
})();

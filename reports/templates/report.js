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
  const compare = (a, b) => (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1);
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

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
  const sortable = (table) => {
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
  };
  for (const table of document.querySelectorAll("table.sortable")) sortable(table);

  // Elements from text alone: nothing here ever reads markup.
  const make = (tag, text, attributes = {}) => {
    const made = document.createElement(tag);
    if (text !== null) made.textContent = text;
    for (const [name, given] of Object.entries(attributes)) made.setAttribute(name, given);
    return made;
  };
  const tableOf = (caption, heads, rows) => {
    const table = make("table", null, { class: "sortable" });
    const head = make("tr", null);
    heads.forEach((text, k) => head.append(make("th", text, k ? { scope: "col", class: "num" } : { scope: "col" })));
    const body = make("tbody", null);
    for (const cells of rows) {
      const row = make("tr", null);
      cells.forEach((text, k) => row.append(k ? make("td", text) : make("th", text, { scope: "row" })));
      body.append(row);
    }
    const top = make("thead", null);
    top.append(head);
    table.append(make("caption", caption), top, body);
    return table;
  };

  // The page's block of values: read when it is first asked for.
  let block = null;
  const values = () => (block ??= JSON.parse(document.getElementById("values").textContent));
  const shown = (x) => {
    if (typeof x !== "number") return "\u2013";
    const size = Math.abs(x);
    const text = x && (size < 1e-4 || size >= 1e6) ? x.toExponential(2) : Number.isInteger(x) ? String(x) : x.toPrecision(size >= 1e3 ? 4 : 3);
    return text.replaceAll("-", "\u2212");
  };
  const read = (claim) => claim.arms.map(([label, ids, x]) => {
    const held = new Map();
    values().ids[ids].forEach((id, k) => held.set(id, values().x[x][k]));
    return { label, held };
  });
  const pairedIn = (arms) => arms.length === 2 && arms[0].held.size === arms[1].held.size && [...arms[0].held.keys()].every((id) => arms[1].held.has(id));
  const difference = (arms, id) => shown(arms[1].held.get(id) - arms[0].held.get(id));

  // A claim's table of values: the extremes are in the page, the whole is made when the table is opened.
  const whole = (part) => {
    const claim = values().claims[part.dataset.claim];
    if (!claim || part.dataset.whole) return;
    part.dataset.whole = "yes";
    const arms = read(claim);
    const both = pairedIn(arms);
    const ids = [...new Set(arms.flatMap((arm) => [...arm.held.keys()]))];
    const heads = [claim.one[0].toUpperCase() + claim.one.slice(1), ...arms.map((arm) => arm.label), ...(both ? ["difference"] : [])];
    const rows = ids.map((id) => [id, ...arms.map((arm) => shown(arm.held.get(id))), ...(both ? [difference(arms, id)] : [])]);
    const box = part.querySelector(".scroll");
    const table = tableOf(`All ${ids.length}`, heads, rows);
    sortable(table);
    box.replaceChildren(table);
    if (ids.length <= 12) return;
    const field = make("input", null, { type: "search", autocomplete: "off" });
    const label = make("label", `Show each ${claim.one} with `);
    label.append(field);
    const line = make("p", null, { class: "filter" });
    line.append(label);
    box.before(line);
    field.addEventListener("input", () => {
      const wanted = field.value.toLowerCase();
      for (const row of table.tBodies[0].rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
    });
  };
  for (const part of document.querySelectorAll("details.values")) {
    part.addEventListener("toggle", () => { if (part.open) whole(part); });
  }

  // One item in every claim: its list is filled when the reader comes to it.
  const lookup = document.getElementById("lookup");
  if (lookup && document.querySelector("details.values")) {
    const [field, list, out] = ["item", "items", "item-values"].map((id) => document.getElementById(id));
    lookup.hidden = false;
    field.addEventListener("focus", () => {
      if (list.childElementCount) return;
      const ids = [...new Set(values().ids.flat())].sort(words.compare);
      list.append(...ids.slice(0, 2000).map((id) => make("option", null, { value: id })));
    });
    field.addEventListener("input", () => {
      const rows = [];
      for (const claim of field.value ? Object.values(values().claims) : []) {
        const arms = read(claim);
        const found = arms.filter((arm) => arm.held.has(field.value));
        if (!found.length) continue;
        const told = found.map((arm) => `${arm.label} ${shown(arm.held.get(field.value))}`).join(", ");
        rows.push([claim.name, claim.place.join(" \u00b7 "), told, pairedIn(arms) ? difference(arms, field.value) : "\u2013"]);
      }
      const table = tableOf(`Values of ${field.value}`, ["Finding", "On", "Values", "Difference"], rows);
      table.classList.add("looked-up");
      sortable(table);
      const none = field.value ? "No claim has an item of this name." : "";
      out.replaceChildren(...(rows.length ? [table] : [make("p", none, { class: "note" })]));
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
    const labels = map.dataset.labels ? JSON.parse(map.dataset.labels) : null;
    let pixels = null;
    // A map of levels holds them as the opacity of its picture, a pixel a cell.
    const level = () => {
      if (!pixels) {
        const canvas = Object.assign(document.createElement("canvas"), { width: columns, height: rows });
        pixels = canvas.getContext("2d", { willReadFrequently: true });
        pixels.drawImage(plane.querySelector("img"), 0, 0, columns, rows);
      }
      return Math.round(pixels.getImageData(c, r, 1, 1).data[3] / 25.5);
    };
    const texts = () => {
      if (labels) return [labels[0][r], labels[1][c], `level ${level()} of 10`, ""];
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
        const head = body.querySelector("tr.head")?.textContent.toLowerCase() ?? "";
        let left = 0;
        for (const row of body.querySelectorAll("tr[data-claim]")) {
          const text = `${head} ${row.textContent.toLowerCase()}`;
          row.hidden = !words.every((word) => text.includes(word));
          left += !row.hidden;
        }
        body.hidden = !left;
      }
    });
  }
})();

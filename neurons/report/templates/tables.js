"use strict";
// Tables of class "interactive" become sortable, searchable and paged; each column named in data-filters gets a menu.
// Where there are many rows a script beside the table holds them all, and elements are made of those that are seen.

function addFilter(table, title) {
  const column = table.columns().indexes().toArray().map((i) => table.column(i))
    .find((each) => each.title() === title);
  const values = [...new Set(table.cells(null, column.index()).render("filter").toArray().map(String))];
  const menu = document.createElement("select");
  menu.append(new Option("all", ""));
  for (const value of values.sort((a, b) => a.localeCompare(b, "en", { numeric: true }))) {
    menu.append(new Option(value, value));
  }
  menu.addEventListener("change", () => {
    column.search(menu.value, { exact: menu.value !== "" }).draw();
  });
  const label = document.createElement("label");
  label.append(title + " ", menu);
  label.className = "filter";
  table.table().container().querySelector(".dt-search").before(label);
}

const safe = DataTable.render.text().display;

// A cell is its text, or [text, what it is sorted by, its link].
function show(cell, kind) {
  const [text, order, link] = Array.isArray(cell) ? cell : [cell];
  if (kind === "sort" || kind === "type") return order ?? text;
  if (kind !== "display") return text;
  return link ? `<a href="${safe(link)}">${safe(text)}</a>` : safe(text);
}

function heldRows(element) {
  const rows = element.parentElement.querySelector("script.rows");
  if (!rows) return {};
  element.tBodies[0].replaceChildren();
  const columns = Array.from(element.tHead.rows[0].cells, (head) => ({ className: head.className, render: show }));
  return { data: JSON.parse(rows.textContent), columns, deferRender: true };
}

for (const element of document.querySelectorAll("table.interactive")) {
  const table = new DataTable(element, {
    ...heldRows(element),
    autoWidth: false,
    order: [],
    pageLength: 25,
    lengthMenu: [25, 100, { label: "all", value: -1 }],
    language: { search: "find", lengthMenu: "rows _MENU_" },
  });
  const pages = table.table().container().querySelector(".dt-paging nav");
  if (pages && element.caption) pages.setAttribute("aria-label", `Pages: ${element.caption.textContent}`);
  for (const title of element.dataset.filters.split(",").filter(Boolean)) {
    addFilter(table, title);
  }
}

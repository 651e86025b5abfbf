"use strict";
// Tables of class "interactive" become sortable, searchable and paged; each column named in data-filters gets a menu.

function addFilter(table, title) {
  const column = table.columns().indexes().toArray().map((i) => table.column(i))
    .find((each) => each.title() === title);
  const values = [...new Set(column.nodes().toArray().map((cell) => cell.textContent.trim()))];
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

for (const element of document.querySelectorAll("table.interactive")) {
  const table = new DataTable(element, {
    autoWidth: false,
    order: [],
    pageLength: 25,
    lengthMenu: [25, 100, { label: "all", value: -1 }],
    language: { search: "find", lengthMenu: "rows _MENU_" },
  });
  for (const title of element.dataset.filters.split(",").filter(Boolean)) {
    addFilter(table, title);
  }
}

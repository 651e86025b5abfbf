"use strict";
// Shows the value under the pointer in the heat maps of a picture, in the line below it. The script of class "panels"
// beside the picture holds them: where each lies, the names of its rows, and its values as signed bytes in base64.

function bytesOf(panel) {
  return Int8Array.from(atob(panel.values), (letter) => letter.charCodeAt(0));
}

function valueAt(panel, across, down) {
  const [left, top, width, height] = panel.box;
  const columns = panel.bytes.length / panel.rows.length;
  const column = Math.floor((across - left) / width * columns);
  const row = Math.floor((down - top) / height * panel.rows.length);
  if (column < 0 || column >= columns || row < 0 || row >= panel.rows.length) return null;
  const value = panel.bytes[row * columns + column] * panel.unit_of;
  const year = String(panel.first + column).padStart(2, "0");
  return `${panel.title}: ${panel.rows[row]}, ${panel.across} ${year}: ${value.toFixed(2).replace("-", "\u2212")} ${panel.unit}`;
}

for (const script of document.querySelectorAll("script.panels")) {
  const figure = script.closest("figure"), image = figure.querySelector("img"), line = figure.querySelector(".under");
  const panels = JSON.parse(script.textContent).map((panel) => ({ ...panel, bytes: bytesOf(panel) }));
  const plain = line.textContent;
  const show = (event) => {
    const box = image.getBoundingClientRect();
    const across = (event.clientX - box.left) / box.width, down = (event.clientY - box.top) / box.height;
    line.textContent = panels.map((panel) => valueAt(panel, across, down)).find((text) => text !== null) ?? plain;
  };
  image.addEventListener("pointermove", show);
  image.addEventListener("pointerdown", show);
  image.addEventListener("pointerleave", () => { line.textContent = plain; });
}

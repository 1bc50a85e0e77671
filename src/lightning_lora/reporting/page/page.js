// A click on a column's heading sorts its table; cells without a value stay at the end.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const headings = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const rising = heading.getAttribute("aria-sort") !== "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
      const rows = [...body.rows].map((row) => [row.cells[column].dataset.value ?? row.cells[column].textContent, row]);
      rows.sort(([a], [b]) => (a === "") - (b === "") || (rising ? 1 : -1) * compare(a, b));
      body.append(...rows.map(([, row]) => row));
    });
  });
}

function compare(a, b) {
  return a - b || a.localeCompare(b, "en", { numeric: true });
}

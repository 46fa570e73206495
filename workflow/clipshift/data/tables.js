// Every table of a page: a click on a column's head sorts by it, a link saves the table as csv.
(() => {
  "use strict";
  const text = (cell) => cell.innerText.trim();
  // The first number of a cell, as "12.5" of "12.5\n10.1 – 15.0"; NaN where it begins with none.
  const number = (value) => Number.parseFloat(value.replaceAll(",", "").replace("\u2212", "-"));
  const collator = new Intl.Collator("en", { numeric: true });

  const sort = (table, column, header) => {
    const down = header.getAttribute("aria-sort") === "ascending";
    const rows = [...table.tBodies[0].rows];
    const values = new Map(rows.map((row) => [row, text(row.cells[column])]));
    const numeric = rows.every((row) => values.get(row) === "" || !Number.isNaN(number(values.get(row))));
    const compare = (a, b) => {
      const [x, y] = [values.get(a), values.get(b)];
      if (x === "" || y === "") return (x === "") - (y === ""); // empty ones last, either way
      const order = numeric ? number(x) - number(y) : collator.compare(x, y);
      return down ? -order : order;
    };
    table.tBodies[0].append(...rows.sort(compare));
    table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
  };

  const csv = (table) => [...table.rows].map((row) => [...row.cells]
    .map((cell) => `"${text(cell).replaceAll('"', '""').replace(/\s+/g, " ")}"`).join(",")).join("\r\n");

  document.querySelectorAll("table").forEach((table, at) => {
    if (!table.tHead || !table.tBodies.length) return;
    [...table.tHead.rows[0].cells].forEach((header, column) => {
      header.tabIndex = 0;
      header.title = "sort";
      header.style.cursor = "pointer";
      header.addEventListener("click", () => sort(table, column, header));
      header.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        sort(table, column, header);
      });
    });
    const link = document.createElement("a");
    link.textContent = "csv";
    link.className = "save";
    link.download = `table-${at + 1}.csv`;
    link.href = "#";
    link.addEventListener("click", () => {
      link.href = `data:text/csv;charset=utf-8,${encodeURIComponent(csv(table))}`;
    });
    table.after(link);
  });
})();

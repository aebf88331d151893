// Makes the heads of tables buttons that sort their rows by `data-place`; cells without one hold nothing and come last
// either way. Without this script the tables are there in their first order.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      const place = (row) => sign * (row.cells[column].dataset.place ?? sign * body.rows.length);
      body.append(...[...body.rows].sort((a, b) => place(a) - place(b)));
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    });
  });
}

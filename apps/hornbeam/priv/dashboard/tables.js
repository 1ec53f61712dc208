// A table whose rows are sorted by a click on a column's head. All that is shown is text.

export class Table {
  // Columns: { key, title, format, isNumber, isWide, className(row), cell(() => row) → a node }
  constructor(table, columns, { key, sort, isDescending = true, label }) {
    this.columns = columns;
    this.key = key;
    this.sort = sort;
    this.isDescending = isDescending;
    this.rows = [];
    this.shown = new Map();
    table.setAttribute("aria-label", label);
    this.heads = new Map();
    table.createTHead().append(this.#head());
    this.body = table.createTBody();
    this.#mark();
  }

  show(rows) {
    this.rows = rows;
    this.#draw();
  }

  #head() {
    const line = document.createElement("tr");
    for (const { key, title, isNumber } of this.columns) {
      const head = document.createElement("th");
      head.scope = "col";
      head.classList.toggle("number", Boolean(isNumber));
      if (key) head.append(this.#sorter(key, title));
      else head.textContent = title;
      this.heads.set(key, head);
      line.append(head);
    }
    return line;
  }

  #sorter(key, title) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = title;
    button.addEventListener("click", () => {
      this.isDescending = this.sort === key ? !this.isDescending : true;
      this.sort = key;
      this.#mark();
      this.#draw();
    });
    return button;
  }

  #mark() {
    for (const [key, head] of this.heads) {
      if (key === this.sort) {
        head.setAttribute("aria-sort", this.isDescending ? "descending" : "ascending");
      } else head.removeAttribute("aria-sort");
    }
  }

  #sorted() {
    const direction = this.isDescending ? -1 : 1;
    return [...this.rows].sort((one, other) => direction * compare(one[this.sort], other[this.sort]));
  }

  // A row keeps its place in the document, and with it the focus, as long as it is there.
  #draw() {
    const lines = this.#sorted().map((row) => this.#line(row));
    const kept = new Set(lines.map(({ id }) => id));
    for (const id of this.shown.keys()) {
      if (!kept.has(id)) {
        this.shown.get(id).remove();
        this.shown.delete(id);
      }
    }
    lines.forEach(({ line }, at) => {
      if (this.body.rows[at] !== line) this.body.insertBefore(line, this.body.rows[at] ?? null);
    });
  }

  #line(row) {
    const id = String(row[this.key]);
    const line = this.shown.get(id) ?? this.#newLine(id);
    line.row = row;
    this.columns.forEach((column, at) => {
      const cell = line.cells[at];
      if (column.cell) {
        if (!cell.firstChild) cell.append(column.cell(() => line.row));
        return;
      }
      const said = (column.format ?? String)(row[column.key]);
      if (cell.textContent !== said) cell.textContent = said;
      cell.className = [column.isNumber ? "number" : "", column.isWide ? "wide" : "",
        column.className?.(row) ?? ""].join(" ").trim();
    });
    return { id, line };
  }

  #newLine(id) {
    const line = document.createElement("tr");
    for (let at = 0; at < this.columns.length; at += 1) line.insertCell();
    this.shown.set(id, line);
    return line;
  }
}

function compare(one, other) {
  if (typeof one === "number" && typeof other === "number") return one - other;
  return String(one ?? "").localeCompare(String(other ?? ""), undefined, { numeric: true });
}

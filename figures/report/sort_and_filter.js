// Tables that sort by a click on a column's name and filter below it: a word, or > < >= <= = and a number or a word.
{
  const PAGE = 100;

  function shown(value) {
    if (value === null) return "";
    if (typeof value !== "number") return String(value);
    if (Number.isInteger(value)) return Math.abs(value) < 1e15 ? value.toLocaleString("en-US") : String(value);
    return Math.abs(value) >= 1e4 ? Math.round(value).toLocaleString("en-US") : String(Number(value.toPrecision(4)));
  }

  function compared(one, other) {
    if (one === null || other === null) return (one === null) - (other === null);
    if (typeof one === "number" && typeof other === "number") return one - other;
    return String(one).localeCompare(String(other), "en", { numeric: true });
  }

  function tester(text) {
    const found = /^(>=|<=|>|<|=)\s*(.+)$/.exec(text.trim());
    if (!found) {
      const word = text.trim().toLowerCase();
      return (value) => String(value ?? "").toLowerCase().includes(word) || shown(value).toLowerCase().includes(word);
    }
    const [, sign, word] = found;
    const wanted = Number(word.replaceAll(",", ""));
    if (Number.isNaN(wanted)) return (value) => sign === "=" && String(value ?? "") === word;
    const tests = {
      ">": (v) => v > wanted, "<": (v) => v < wanted, ">=": (v) => v >= wanted, "<=": (v) => v <= wanted,
      "=": (v) => v === wanted,
    };
    return (value) => typeof value === "number" && tests[sign](value);
  }

  function made(tag, given = {}, ...inside) {
    const element = Object.assign(document.createElement(tag), given);
    element.append(...inside);
    return element;
  }

  class SortedTable {
    constructor(place, { columns, rows }) {
      Object.assign(this, { place, columns, rows, sorted: null, filters: new Map(), whole: false, limit: PAGE });
      this.same = columns.map((_, at) => rows.length > 1 && rows.every((row) => row[at] === rows[0][at]));
      this.draw();
    }

    visible() {
      return this.columns.map((_, at) => at).filter((at) => this.whole || !this.same[at]);
    }

    chosen() {
      const tests = [...this.filters].filter(([, text]) => text.trim()).map(([at, text]) => [at, tester(text)]);
      const kept = this.rows.filter((row) => tests.every(([at, test]) => test(row[at])));
      if (this.sorted === null) return kept;
      const { at, sign } = this.sorted;
      return kept.sort((one, other) =>
        one[at] === null || other[at] === null ? compared(one[at], other[at]) : sign * compared(one[at], other[at]));
    }

    draw() {
      const toggle = made("input", { type: "checkbox", checked: this.whole });
      toggle.addEventListener("change", () => { this.whole = toggle.checked; this.draw(); });
      const alike = this.columns.filter((_, at) => this.same[at])
        .map((column) => [column.title, shown(this.rows[0][this.columns.indexOf(column)])]).filter(([, text]) => text);
      const words = alike.length ? `The same in all rows: ${alike.map((each) => each.join(" ")).join(", ")}.` : "";
      this.count = made("p", { className: "count" });
      this.body = made("tbody");
      const table = made("table", {}, made("thead", {}, this.names(), this.boxes()), this.body);
      this.more = made("button", { type: "button", textContent: `${PAGE} more rows` });
      this.more.addEventListener("click", () => { this.limit += PAGE; this.fill(); });
      this.place.replaceChildren(
        made("p", { className: "same", textContent: words }),
        made("label", {}, toggle, " all columns"), this.count, made("div", { className: "scroll" }, table), this.more);
      this.fill();
    }

    names() {
      return made("tr", {}, ...this.visible().map((at) => {
        const { title, name, meaning } = this.columns[at];
        const button = made("button", { type: "button", textContent: title, title: `${name}: ${meaning || "sort"}` });
        button.addEventListener("click", () => {
          const again = this.sorted && this.sorted.at === at;
          this.sorted = again ? (this.sorted.sign > 0 ? { at, sign: -1 } : null) : { at, sign: 1 };
          this.draw();
        });
        const head = made("th", { scope: "col" }, button);
        if (this.sorted && this.sorted.at === at) head.ariaSort = this.sorted.sign > 0 ? "ascending" : "descending";
        return head;
      }));
    }

    boxes() {
      return made("tr", {}, ...this.visible().map((at) => {
        const box = made("input", { type: "search", placeholder: "filter", value: this.filters.get(at) ?? "" });
        box.ariaLabel = `filter ${this.columns[at].title}`;
        box.addEventListener("input", () => { this.filters.set(at, box.value); this.limit = PAGE; this.fill(); });
        return made("th", {}, box);
      }));
    }

    fill() {
      const chosen = this.chosen();
      const places = this.visible();
      this.body.replaceChildren(...chosen.slice(0, this.limit).map((row) => made("tr", {}, ...places.map((at) =>
        made("td", { textContent: shown(row[at]), className: typeof row[at] === "number" ? "number" : "",
          title: typeof row[at] === "number" ? String(row[at]) : "" })))));
      this.count.textContent = `${chosen.length.toLocaleString("en-US")} of ${this.rows.length.toLocaleString("en-US")} rows`;
      this.more.hidden = chosen.length <= this.limit;
    }
  }

  for (const details of document.querySelectorAll("details.table")) {
    let begun = false;
    const build = async () => {
      if (begun || !details.open) return;
      begun = true;
      const place = details.querySelector(".place");
      try {
        new SortedTable(place, await unpacked(details.dataset.of));
      } catch (error) {
        place.textContent = `${TOO_OLD}; the file named above holds the table.`;
      }
    };
    details.addEventListener("toggle", build);
    build();
  }
}

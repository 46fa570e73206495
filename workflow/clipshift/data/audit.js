"use strict";
// The table of pairs: only the rows of the current page are in the document. All text from the
// data goes through textContent, so no key is ever read as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const top = (item) => (item.near.length ? item.near[0].similarity : -Infinity);
  const columns = { key: (i) => i.key, class: (i) => i.class, similarity: top };
  const headers = [...document.querySelectorAll("#items th[data-sort]")];
  const withClass = headers.some((h) => h.dataset.sort === "class");
  const state = { sort: "similarity", down: true, page: 0, chosen: [] };
  data.items.forEach((item, number) => { item.number = number; });

  const make = (name, className, text) => {
    const node = document.createElement(name);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  };

  const picture = (entry, what) => {
    const box = make("span", "picture");
    if (entry.picture === null) {
      box.textContent = "no image";
      return box;
    }
    const image = make("img");
    image.src = data.pictures[entry.picture];
    image.alt = `${what} ${entry.key}`;
    box.append(image);
    return box;
  };

  const anyPicture = data.pictures.length > 0;
  const figure = (entry, what) => (anyPicture ? [picture(entry, what)] : []);

  const cell = (className, ...children) => {
    const node = make("td", className);
    node.setAttribute("role", "cell");
    node.append(...children);
    return node;
  };

  const value = (number) => make(
    "span", number > data.main ? "value over" : "value",
    Number.isFinite(number) ? number.toFixed(3) : "none",
  );

  const line = (item) => {
    const row = make("tr");
    row.setAttribute("role", "row");
    row.append(cell("test", ...figure(item, "Test item"), make("span", "key small", item.key)));
    if (withClass) row.append(cell("class", item.class));
    const similarity = cell("similarity", value(top(item)));
    const notes = [];
    if (item.reference !== null) notes.push(`reference ${item.reference.toFixed(3)}`);
    if (item.correct !== null) notes.push(item.correct ? "predicted rightly" : "predicted wrongly");
    if (item.drawn) notes.push("drawn at random");
    notes.forEach((note) => similarity.append(make("span", "small", note)));
    row.append(similarity);
    const list = make("ol", "near");
    item.near.forEach((near) => {
      const entry = make("li");
      entry.append(...figure(near, "Training item"), value(near.similarity),
        make("span", "key small", near.key));
      list.append(entry);
    });
    row.append(cell("neighbours", list));
    return row;
  };

  const choose = () => {
    const low = at("threshold").value === "" ? -Infinity : Number(at("threshold").value);
    const group = at("group").value;
    const words = at("words").value.trim().toLowerCase();
    const fits = (item) => top(item) > low
      && (group === "" || item.drawn === (group === "drawn"))
      && (words === "" || item.key.toLowerCase().includes(words)
        || item.class.toLowerCase().includes(words)
        || item.near.some((near) => near.key.toLowerCase().includes(words)));
    const of = columns[state.sort];
    const sign = state.down ? -1 : 1;
    const compare = (a, b) => {
      const [x, y] = [of(a), of(b)];
      if (x === y) return a.number - b.number;
      return x < y ? -sign : sign;
    };
    state.chosen = data.items.filter(fits).sort(compare);
  };

  const show = () => {
    const size = Number(at("size").value);
    const pages = Math.max(1, Math.ceil(state.chosen.length / size));
    state.page = Math.min(Math.max(state.page, 0), pages - 1);
    const part = state.chosen.slice(state.page * size, (state.page + 1) * size);
    at("rows").replaceChildren(...part.map(line));
    at("empty").hidden = part.length > 0;
    at("status").textContent = `Page ${state.page + 1} of ${pages}, ${state.chosen.length} test items`;
    document.querySelectorAll(".pager button").forEach((button) => {
      const back = ["first", "previous"].includes(button.dataset.page);
      // Not `disabled`: that would take the focus away from whoever turns pages by keyboard.
      button.setAttribute("aria-disabled", String(back ? state.page === 0 : state.page === pages - 1));
    });
    headers.forEach((header) => {
      if (header.dataset.sort === state.sort) {
        header.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      } else {
        header.removeAttribute("aria-sort");
      }
    });
  };

  const fresh = () => { state.page = 0; choose(); show(); };
  const turn = (where) => {
    state.page = { first: 0, previous: state.page - 1, next: state.page + 1, last: Infinity }[where];
    show();
  };

  headers.forEach((header) => header.querySelector("button").addEventListener("click", () => {
    const again = state.sort === header.dataset.sort;
    state.down = again ? !state.down : header.dataset.sort === "similarity";
    state.sort = header.dataset.sort;
    fresh();
  }));
  at("controls").addEventListener("submit", (event) => event.preventDefault());
  at("controls").addEventListener("input", fresh);
  document.querySelector(".pager").addEventListener("click", (event) => {
    const where = event.target.dataset.page;
    if (where) turn(where);
  });
  document.querySelector(".pager").addEventListener("keydown", (event) => {
    const where = { ArrowLeft: "previous", ArrowRight: "next", Home: "first", End: "last" }[event.key];
    if (where) {
      event.preventDefault();
      turn(where);
    }
  });
  fresh();
})();

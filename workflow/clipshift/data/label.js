"use strict";
// The grid. The server is the authority: what is shown is what it said last, plus the labels that
// are on their way to it, which are sent one after the other until it has them. All text from the
// data goes through textContent, so no key is ever read as markup.
(() => {
  const LETTERS = ["N", "R", "A"];
  const NAMES = ["natural", "rendition", "ambiguous"];
  const KEYS = { 0: 0, 1: 1, 2: 2, n: 0, r: 1, a: 2, x: null, Delete: null, Backspace: null };
  const REFRESH = 2000; // ms
  const RETRY = 1000; // ms
  const PATIENCE = 10000; // ms until a request is given up and sent again
  const PAGE_PATIENCE = 120000; // a page may have its images looked for in large tars
  const FINAL = [400, 404, 409, 413, 415, 422]; // answers after which it is not sent again
  const at = (id) => document.getElementById(id);
  const annotator = document.body.dataset.annotator;
  const state = { view: "label", page: 0, at: 0, found: null, focus: true };
  // Requests that the server has not confirmed. They survive a reload; sent twice, they act once.
  const place = `queue ${location.pathname}`;
  const kept = () => {
    try {
      const found = JSON.parse(sessionStorage.getItem(place) || "[]");
      return Array.isArray(found) ? found : [];
    } catch {
      return [];
    }
  };
  const queue = kept();
  const keep = () => {
    try {
      sessionStorage.setItem(place, JSON.stringify(queue));
    } catch {
      // No room: they stay in this tab's memory, and leaving it is warned of.
    }
  };
  const failed = new Map(); // key -> why its last label is not on the server's disk
  let turning = false; // another page is asked for: what is seen is no more what a key is meant for
  let missed = 0; // keys that were pressed meanwhile
  let wake = () => {}; // ends the pause before the next try
  let sending = false;
  let loading = 0; // questions for a page without an answer yet
  let asked = 0; // number of the last question for a page: an older answer is of no use

  const make = (name, className, text) => {
    const node = document.createElement(name);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const named = (label) => (label === null ? "no label" : NAMES[label]);
  const notice = (text) => { at("notice").textContent = text; };
  const trouble = (text) => {
    at("trouble").hidden = !text;
    if (at("what").textContent !== (text || "")) at("what").textContent = text || "";
    at("retry").hidden = !queue.length;
  };
  const pause = () => new Promise((done) => {
    wake = done;
    setTimeout(done, RETRY);
  });
  const ask = (url, patience, more) => fetch(url, { signal: AbortSignal.timeout(patience), ...more });
  // Of requests: unique and numbered, so that one whose answer was lost and that is sent again acts
  // once.
  let sequence = 0;
  const identity = () => [++sequence, ...crypto.getRandomValues(new Uint32Array(4))].map((n) => n.toString(36)).join("-");

  const tiles = () => [...at("grid").children];
  const items = () => (state.found ? state.found.items : []);

  const fill = (tile, item) => {
    const label = item.label === null ? "" : String(item.label);
    tile.dataset.label = label;
    const saving = queue.some((entry) => entry.body.key === item.key);
    const saved = saving ? "saving" : failed.has(item.key) ? "unsaved" : "saved";
    tile.dataset.saved = saved;
    tile.classList.toggle("pending", saving);
    tile.querySelector(".badge").textContent = label === "" ? "" : LETTERS[item.label];
    const how = { saved: "", saving: ", saving", unsaved: `, not saved: ${failed.get(item.key)}` }[saved];
    tile.setAttribute("aria-label", item.broken
      ? `${item.key}: cannot be shown, ${item.broken}` : `${item.key}: ${named(item.label)}${how}`);
    tile.title = saved === "saved" ? "" : how.slice(2);
    const given = tile.querySelector(".given");
    if (given) {
      given.replaceChildren(...item.given.map((g) => make("li", "", `${g.annotator}: ${NAMES[g.label]}`)));
    }
  };

  const build = (item, number) => {
    const tile = make("button", item.broken ? "tile broken" : "tile");
    tile.type = "button";
    tile.dataset.key = item.key;
    const picture = make("span", "picture");
    if (item.broken) {
      picture.textContent = `cannot be shown: ${item.broken}`;
      tile.setAttribute("aria-disabled", "true");
    } else {
      const image = make("img");
      image.alt = "";
      image.draggable = false;
      image.src = `image?key=${encodeURIComponent(item.key)}`;
      picture.append(image);
    }
    tile.append(picture, make("span", "badge"), make("span", "key", item.key));
    if (item.given) tile.append(make("ul", "given"));
    tile.addEventListener("focus", () => { state.at = number; });
    tile.addEventListener("click", () => {
      const now = items()[number].label;
      state.at = number;
      label(number, now === null ? 0 : now === 2 ? null : now + 1);
    });
    fill(tile, item);
    return tile;
  };

  const show = (found) => {
    turning = false;
    at("grid").removeAttribute("aria-busy");
    if (missed) notice(`${missed} key${missed > 1 ? "s" : ""} not used: this page was not shown yet`);
    missed = 0;
    const before = items().map((item) => [item.key, item.broken].join("\n")).join("\n\n");
    state.found = found;
    state.page = found.page;
    const same = before === items().map((item) => [item.key, item.broken].join("\n")).join("\n\n");
    if (same) {
      tiles().forEach((tile, number) => fill(tile, items()[number]));
    } else {
      const held = at("grid").contains(document.activeElement);
      at("grid").replaceChildren(...items().map(build));
      state.at = Math.min(state.at, Math.max(0, items().length - 1));
      state.focus = state.focus || held;
    }
    if (state.focus && tiles()[state.at]) tiles()[state.at].focus();
    state.focus = false;
    const p = found.progress;
    at("bar").max = Math.max(1, p.of);
    at("bar").value = p.labelled;
    const what = state.view === "label" ? "labelled" : "adjudicated";
    at("progress").textContent = `${p.labelled} of ${p.of} ${what} (${p.counts.map((n, i) => `${n} ${NAMES[i]}`).join(", ")})`
      + (p.undecodable ? `; ${p.undecodable} seen that cannot be shown` : "");
    at("status").textContent = `Page ${found.page + 1} of ${found.pages}`;
    at("page").max = found.pages;
    at("disputed").textContent = found.disputed ? `(${found.settled} of ${found.disputed} settled)` : "(none)";
    at("empty").hidden = state.view !== "disagreements" || items().length > 0;
    at("unlabelled").setAttribute("aria-disabled", String(!p.first_unlabelled));
    document.querySelectorAll(".pager [data-page]").forEach((button) => {
      const back = ["first", "previous"].includes(button.dataset.page);
      button.setAttribute("aria-disabled", String(back ? found.page === 0 : found.page === found.pages - 1));
    });
    trouble(found.trouble);
  };

  const remember = () => history.replaceState(null, "", `#${state.view}/${state.page + 1}`);

  const load = async (focus) => {
    const number = ++asked;
    state.focus = state.focus || focus;
    const query = new URLSearchParams({ view: state.view, page: state.page, annotator });
    let answer;
    try {
      loading += 1;
      answer = await ask(`api/page?${query}`, PAGE_PATIENCE);
    } catch {
      trouble("The server does not answer. Start `clipshift label` again with the same options; this page then goes on.");
      return;
    } finally {
      loading -= 1;
    }
    // A server that is killed in the middle of an answer leaves half a page.
    const found = await answer.json().catch(() => ({ error: "The server's answer ended early. Reload the page." }));
    // Labels on their way are newer than this answer.
    if (number !== asked || queue.length) return;
    if (found.error) { trouble(found.error); return; }
    failed.clear(); // what is shown now is what is on the disk
    show(found);
    remember();
  };

  const turn = (page) => {
    if (state.view === "agreement") return;
    const last = state.found ? state.found.pages - 1 : 0;
    const next = Math.min(Math.max(page, 0), last);
    if (state.found && next === state.found.page) return;
    leave(next, 0);
  };

  // Go to another page. Until it is shown no key labels: those of the old one are still on the
  // screen, and those of the new one were not seen.
  const leave = (page, place) => {
    state.page = page;
    state.at = place;
    asked += 1; // an answer on its way is of the old page
    turning = true;
    at("grid").setAttribute("aria-busy", "true");
    notice("");
    drained().then(() => load(true));
  };

  const drained = async () => {
    while (queue.length) await new Promise((done) => { setTimeout(done, 50); });
  };

  const undone = (what) => {
    if (!what) { notice("nothing to undo"); return; }
    notice(`undone: ${what.key} is ${named(what.label)} again`);
    if (what.page === undefined) return;
    state.page = what.page;
    state.at = what.at;
    state.focus = true;
  };

  const pump = async () => {
    if (sending) return;
    sending = true;
    while (queue.length) {
      const entry = queue[0];
      let answer;
      let body;
      try {
        answer = await ask(entry.url, PATIENCE, {
          method: "POST",
          headers: { "Content-Type": "application/json" },
          body: JSON.stringify(entry.body),
        });
        body = await answer.json();
      } catch {
        answer = null;
      }
      if (!answer || !(answer.ok || FINAL.includes(answer.status))) {
        // Down, slow, out of space, or another server: keep the labels and go on trying.
        trouble(`${queue.length} not saved yet, trying again: ${body ? body.error : "the server does not answer. Start `clipshift label` again with the same options."}`);
        await pause();
        continue;
      }
      queue.shift();
      trouble("");
      if (!answer.ok) {
        // What was clicked after it on the same image rested on it.
        if (entry.body.key !== undefined) failed.set(entry.body.key, body.error);
        for (let i = queue.length - 1; i >= 0; i -= 1) {
          if (queue[i].body.key === entry.body.key) queue.splice(i, 1);
        }
        notice(`${entry.body.key ?? "undo"}: ${body.error}`);
      } else if (entry.url === "api/undo") {
        undone(body.undone);
      } else {
        failed.delete(entry.body.key);
      }
      keep();
      tiles().forEach((tile, i) => fill(tile, items()[i]));
    }
    sending = false;
    await load(false);
  };

  const send = (url, body) => {
    queue.push({ url, body: { view: state.view, annotator, id: identity(), ...body } });
    keep();
    pump();
  };

  const label = (number, value) => {
    if (turning) {
      missed += 1;
      notice(`${missed} key${missed > 1 ? "s" : ""} not used: the page is not shown yet`);
      return false;
    }
    const item = items()[number];
    if (!item) return false;
    if (item.broken) {
      notice(`${item.key}: an image that cannot be shown gets no label`);
      return true;
    }
    if (item.label === value) return true;
    const expected = item.label;
    item.label = value;
    send("api/label", { key: item.key, label: value, expected });
    fill(tiles()[number], item);
    notice(named(value));
    return true;
  };

  // All images of the page that have no label yet; each is a label of its own, also for undo.
  const labelRest = (value) => {
    if (turning) return label(state.at, value); // counted as not used
    const open = items().flatMap((item, i) => (item.label === null && !item.broken ? [i] : []));
    open.forEach((i) => label(i, value));
    notice(`${open.length} image${open.length === 1 ? "" : "s"} of this page: ${named(value)}`);
    return true;
  };

  const undo = () => send("api/undo", {});

  const zoom = () => {
    const item = items()[state.at];
    if (at("large").open) { at("large").close(); return; }
    if (!item || item.broken) return;
    at("large").querySelector("img").src = `image?side=large&key=${encodeURIComponent(item.key)}`;
    at("large").querySelector("p").textContent = item.key;
    at("large").showModal();
  };

  const move = (step) => {
    const next = Math.min(Math.max(state.at + step, 0), tiles().length - 1);
    if (tiles()[next]) tiles()[next].focus();
  };

  const number = (value) => (value === null ? "–" : value.toFixed(3));
  const row = (cells, kind = "td") => {
    const line = make("tr");
    line.append(...cells.map((text) => make(kind, "", String(text))));
    return line;
  };
  const table = (head, lines) => {
    const box = make("div", "wide");
    const whole = make("table");
    const top = make("thead");
    const body = make("tbody");
    top.append(row(head, "th"));
    body.append(...lines.map((line) => row(line)));
    whole.append(top, body);
    box.append(whole);
    return box;
  };

  const agreement = async () => {
    const answer = await ask("api/agreement", PAGE_PATIENCE).catch(() => null);
    if (!answer || !answer.ok) { trouble("The server does not answer."); return; }
    const found = await answer.json();
    const cells = (e, value) => [e.n, e.observed === undefined ? "" : number(e.observed), number(value),
      value === null ? "" : `${number(e.low)} – ${number(e.high)}`];
    const lines = found.pairs.map((pair) => [`Cohen: ${pair.a}, ${pair.b}`, ...cells(pair, pair.kappa)]);
    if (found.fleiss) {
      const [fleiss, alpha] = [found.fleiss, found.krippendorff];
      lines.push([`Fleiss: all ${fleiss.annotators}`, ...cells(fleiss, fleiss.kappa)]);
      lines.push([`Krippendorff: all ${alpha.annotators}`, ...cells(alpha, alpha.alpha)]);
    }
    at("agreement").replaceChildren(
      make("h2", "", "Labels"),
      table(["annotator", ...NAMES], Object.entries(found.annotators).map(([name, counts]) => [name, ...NAMES.map((l) => counts[l])])),
      make("h2", "", "Agreement"),
      make("p", "", `${found.pictures} images, ${found.labelled_twice} with several labels, ${found.disagreements} with different ones.`),
      lines.length ? table(["kappa or alpha", "images", "equal", "value", "95 % interval"], lines)
        : make("p", "", "One annotator only: no agreement to measure."),
      make("p", "note", "Intervals: percentile bootstrap over images. Fleiss' kappa is over the images that all labelled"
        + (found.fleiss && found.fleiss.labelled_by_some_only ? ` (${found.fleiss.labelled_by_some_only} that only some labelled are left out)` : "")
        + "; Krippendorff's alpha is over those with two labels or more"
        + ". A dash: not defined, since there is no image in common or everybody used one label only. Adjudicated labels are no part of this."),
    );
  };

  const choose = (view, page) => {
    state.view = view;
    state.found = null;
    at("grid").replaceChildren();
    document.querySelectorAll("nav [data-view]").forEach((button) => {
      if (button.dataset.view === view) button.setAttribute("aria-current", "page");
      else button.removeAttribute("aria-current");
    });
    at("agreement").hidden = view !== "agreement";
    at("work").hidden = view === "agreement";
    if (view === "agreement") {
      state.page = page;
      notice("");
      remember();
      agreement();
    } else {
      leave(page, 0);
    }
  };

  document.querySelector("nav").addEventListener("click", (event) => {
    const button = event.target.closest("[data-view]");
    if (button) drained().then(() => choose(button.dataset.view, 0));
  });
  document.querySelector(".pager").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const where = { first: 0, previous: state.page - 1, next: state.page + 1, last: Infinity }[button.dataset.page];
    if (where !== undefined) turn(where);
    if (button.id === "undo") undo();
    const first = state.found && state.found.progress.first_unlabelled;
    if (button.id === "unlabelled" && first) leave(first.page, first.at);
  });
  at("page").addEventListener("change", () => {
    const page = parseInt(at("page").value, 10);
    at("page").value = "";
    if (page > 0) turn(page - 1);
  });
  if (at("annotator")) {
    at("annotator").addEventListener("change", () => drained().then(() => {
      location.href = `?annotator=${encodeURIComponent(at("annotator").value)}${location.hash}`;
    }));
  }
  // Hidden at first: a key may name the source, and so suggest a label.
  at("names").addEventListener("change", () => {
    document.body.classList.toggle("named", at("names").checked);
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("select, #page") || event.altKey || event.metaKey) return;
    if (event.ctrlKey && event.key !== "z") return;
    if (state.view === "agreement") return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const pages = { ArrowLeft: state.page - 1, PageUp: state.page - 1, ArrowRight: state.page + 1,
      PageDown: state.page + 1, Home: 0, End: Infinity };
    if (at("large").open && !["z", "Escape"].includes(key) && !(key in KEYS)) return;
    if (key in pages) {
      turn(pages[key]);
    } else if (key === "ArrowUp" || key === "ArrowDown") {
      move(key === "ArrowUp" ? -5 : 5);
    } else if (key === "u" || (event.ctrlKey && key === "z")) {
      undo();
    } else if (key === "z") {
      zoom();
    } else if (key === "g") {
      at("page").focus();
    } else if (event.shiftKey && KEYS[key] !== undefined && KEYS[key] !== null) {
      if (!event.repeat) labelRest(KEYS[key]);
    } else if (key in KEYS) {
      if (at("large").open) at("large").close();
      if (!event.repeat && label(state.at, KEYS[key]) && KEYS[key] !== null) move(1);
    } else {
      return;
    }
    event.preventDefault();
  });
  at("large").addEventListener("click", () => at("large").close());
  at("retry").addEventListener("click", () => wake());
  window.addEventListener("beforeunload", (event) => {
    if (!queue.length && !failed.size) return;
    event.preventDefault();
    event.returnValue = ""; // of older browsers
  });
  const refresh = () => {
    const idle = !loading && !queue.length; // a slow server is not asked again before it answered
    if (document.visibilityState === "visible" && state.view !== "agreement" && idle) load(false);
  };
  window.addEventListener("focus", refresh);
  document.addEventListener("visibilitychange", refresh);
  setInterval(refresh, REFRESH);

  if (queue.length) pump();
  const [view, page] = location.hash.slice(1).split("/");
  choose(["label", "disagreements", "agreement"].includes(view) ? view : "label", Math.max(0, (parseInt(page, 10) || 1) - 1));
})();

"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];

  // Light and dark: what the system asks for, until the button says otherwise.
  const theme = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const name = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; name(); });
  system.addEventListener("change", name);
  name();

  // Filters.
  const form = document.querySelector(".filters");
  const cards = all(".finding");
  if (form) {
    const search = document.getElementById("search");
    const keys = ["severity", "verdict", "edge"].filter((key) => form.querySelector(`input[name="${key}"]`));
    const apply = () => {
      const chosen = {};
      for (const key of keys) {
        chosen[key] = new Set(all(`input[name="${key}"]:checked`, form).map((box) => box.value));
      }
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const card of cards) {
        const passes = Object.keys(chosen).every((key) => chosen[key].has(card.dataset[key])) &&
          words.every((word) => card.dataset.search.includes(word));
        card.hidden = !passes;
        shown += passes;
      }
      document.getElementById("shown").textContent = `${shown} of ${cards.length} shown`;
      document.getElementById("none").hidden = shown > 0;
    };
    form.addEventListener("input", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    const reset = () => {
      search.value = "";
      for (const box of all("input[type=checkbox]", form)) box.checked = true;
      apply();
    };
    document.getElementById("all").addEventListener("click", reset);

    const fold = document.getElementById("fold");
    const bodies = all("details.card");
    const label = () => { fold.textContent = bodies.some((item) => item.open) ? "Fold all" : "Unfold all"; };
    fold.addEventListener("click", () => {
      const open = !bodies.some((item) => item.open);
      for (const item of bodies) item.open = open;
      label();
    });
    for (const item of bodies) item.addEventListener("toggle", label);
    label();

    // A link to a finding shows it, filtered out or folded as it may be.
    const follow = () => {
      const card = location.hash && document.getElementById(location.hash.slice(1))?.closest(".finding");
      if (!card) return;
      if (card.hidden) reset();
      card.querySelector("details.card").open = true;
      card.scrollIntoView();
    };
    addEventListener("hashchange", follow);
    follow();
  }

  // Commands to copy.
  const copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  };
  for (const button of all("button.copy")) {
    button.setAttribute("aria-label", `Copy: ${button.dataset.copy}`);
    button.addEventListener("click", async () => {
      await copy(button.dataset.copy);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1600);
    });
  }

  // Diagrams: one tab stop each, arrow keys from event to event, the whole text below.
  for (const drawing of all("svg.sequence")) {
    const events = all("g.event", drawing);
    const detail = drawing.closest(".part").querySelector(".detail");
    const tell = (item) => {
      for (const other of events) other.classList.toggle("current", other === item);
      detail.textContent = item.getAttribute("aria-label");
    };
    events.forEach((item, index) => {
      item.setAttribute("tabindex", index ? "-1" : "0");
      item.addEventListener("focus", () => tell(item));
      item.addEventListener("pointerenter", () => tell(item));
      item.addEventListener("keydown", (event) => {
        const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
        const next = step && events[index + step];
        if (!next) return;
        event.preventDefault();
        item.setAttribute("tabindex", "-1");
        next.setAttribute("tabindex", "0");
        next.focus();
      });
    });
  }

  // On paper: everything unfolded, and light.
  let chosen;
  addEventListener("beforeprint", () => {
    chosen = root.dataset.theme;
    root.dataset.theme = "light";
    for (const item of all("details")) item.open = true;
  });
  addEventListener("afterprint", () => {
    if (chosen) root.dataset.theme = chosen;
    else delete root.dataset.theme;
  });
})();

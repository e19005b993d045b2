"use strict";
// Light, dark, or as the system says: a choice is kept where the browser lets a file keep anything.

const THEMES = [
  { name: "", sign: "◐", text: "as the system" },
  { name: "light", sign: "☀", text: "light" },
  { name: "dark", sign: "☾", text: "dark" },
];

const theme = {
  get stored() {
    try {
      return localStorage.getItem("fastxai-theme") || "";
    } catch {
      return "";
    }
  },
  show(name) {
    const chosen = THEMES.find((one) => one.name === name) || THEMES[0];
    if (chosen.name) document.documentElement.dataset.theme = chosen.name;
    else delete document.documentElement.dataset.theme;
    $("#theme").textContent = chosen.sign;
    $("#theme").setAttribute("aria-label", `Colours: ${chosen.text}`);
  },
  turn() {
    const now = document.documentElement.dataset.theme || "";
    const next = THEMES[(THEMES.findIndex((one) => one.name === now) + 1) % THEMES.length].name;
    this.show(next);
    try {
      localStorage.setItem("fastxai-theme", next);
    } catch {
      // a file opened without storage: the choice lasts as long as the page
    }
  },
};

theme.show(theme.stored);
$("#theme").onclick = () => theme.turn();

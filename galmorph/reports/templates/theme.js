"use strict";
{
  const themes = ["auto", "light", "dark"], button = document.getElementById("theme");
  const stored = () => { try { return localStorage.getItem("galmorph-theme"); } catch { return null; } };
  const set = name => {
    button.textContent = "Theme: " + name;
    if (name === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    try { localStorage.setItem("galmorph-theme", name); } catch { /* some browsers keep nothing for files */ }
    button.dataset.name = name;
  };
  set(themes.includes(stored()) ? stored() : "auto");
  button.addEventListener("click", () => set(themes[(themes.indexOf(button.dataset.name) + 1) % 3]));
}

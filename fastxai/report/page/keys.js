"use strict";
// The keyboard, and the start.

function changeOpacity(by) {
  stage.opacity = Math.max(0, Math.min(1, stage.opacity + by));
  stage.overlay = true;
  viewer.show();
}

function inViewer(event) {
  const method = "123456789".indexOf(event.key);
  const inside = event.target.closest?.("#maps, #weights");
  if (event.target.id === "opacity" && event.key.startsWith("Arrow")) return; // the slider moves itself
  if (event.key === "ArrowLeft") viewer.step(-1);
  else if (event.key === "ArrowRight") viewer.step(1);
  else if (event.key === "ArrowUp" && !inside) changeOpacity(0.1);
  else if (event.key === "ArrowDown" && !inside) changeOpacity(-0.1);
  else if (event.key === "o") $("#overlay").click();
  else if (event.key === "s") $("#outlines").click();
  else if (event.key === "a") viewer.choose(AGREEMENT);
  else if (event.key === "t") theme.turn();
  else if (event.key === "?") $("#help").showModal();
  else if (method >= 0) viewer.choose(method);
  else return;
  event.preventDefault();
}

function inGallery(event) {
  const place = Number(event.target.closest?.(".card")?.dataset.place ?? -1);
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -gallery.columns, ArrowDown: gallery.columns };
  if (event.key in steps && place >= 0) gallery.focus(place + steps[event.key]);
  else if (event.key.startsWith("Arrow") && event.key !== "ArrowUp" && event.key !== "ArrowDown") gallery.focus(0);
  else if (event.key === "/") $("#search").focus();
  else if (event.key === "t") theme.turn();
  else if (event.key === "?") $("#help").showModal();
  else return;
  event.preventDefault();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("#help").open) return;
  if (viewer.isOpen) {
    inViewer(event);
    return;
  }
  if (event.target.matches?.("input, select, textarea")) {
    if (event.key === "Escape" && event.target.id === "search") {
      event.target.value = "";
      event.target.oninput();
      event.target.blur();
    }
    return;
  }
  inGallery(event);
});

$("#help-button").onclick = () => $("#help").showModal();
$("#help-close").onclick = () => $("#help").close();
fillControls();
listenToControls();
listenToViewer();
gallery.refresh();

// A press on a thumbnail says which picture it was, and which press: of two presses the second may reach the server first.
let pressed = 0;
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-place]");
  if (!button) return;
  pressed = Math.max(pressed + 1, Date.now()); // grows, also where this code is run again
  trigger("select", { place: Number(button.dataset.place), press: pressed });
});
watch("asked", () => trigger("input")); // for other thumbnails

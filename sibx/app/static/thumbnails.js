// A press on a thumbnail says which one it was.
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-place]");
  if (button) trigger("select", { index: Number(button.dataset.place) });
});

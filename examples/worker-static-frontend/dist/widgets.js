// Asks the backend for its widgets and lists them.
const state = (text) => { document.getElementById("state").textContent = text; };
const show = (widget) => {
  const item = document.createElement("li");
  item.textContent = `${widget.id}: ${widget.name}`;
  document.getElementById("widgets").append(item);
};

fetch("/api/widgets")
  .then((response) => response.ok ? response.json() : Promise.reject(new Error(`status ${response.status}`)))
  .then((widgets) => {
    widgets.forEach(show);
    state(widgets.length === 0 ? "there are none" : `${widgets.length} of them`);
  })
  .catch((error) => state(`the backend failed: ${error.message}`));

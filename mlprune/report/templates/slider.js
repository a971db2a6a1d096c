(function () {
  const data = JSON.parse(document.getElementById("overlap").textContent);
  const cells = document.querySelectorAll("#heat td");
  const only = document.getElementById("only");
  const chosen = document.getElementById("part");
  const input = document.getElementById("layer");
  function show() {
    const part = data.parts[chosen.value];
    input.max = part.layers.length - 1;
    const layer = Number(input.value);
    part.overlap[layer].flat().forEach(function (value, i) {
      cells[i].style.setProperty("--v", value / part.peak);
      cells[i].textContent = value.toFixed(1);
    });
    document.getElementById("layer-name").textContent = part.layers[layer];
    if (only) only.textContent = part.only[layer];
  }
  input.addEventListener("input", show);
  chosen.addEventListener("input", show);
  show(); // browsers keep a form's state over a reload
})();

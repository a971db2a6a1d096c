(function () {
  const data = JSON.parse(document.getElementById("overlap").textContent);
  const cells = document.querySelectorAll("#heat td");
  const only = document.getElementById("only");
  const input = document.getElementById("layer");
  input.addEventListener("input", function () {
    const layer = Number(input.value);
    data.overlap[layer].flat().forEach(function (value, i) {
      cells[i].style.setProperty("--v", value / data.peak);
      cells[i].textContent = (100 * value).toFixed(1);
    });
    document.getElementById("layer-name").textContent = data.layers[layer];
    if (only) only.textContent = data.only_translation[layer];
  });
})();

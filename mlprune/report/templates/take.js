// The buttons under a table: LaTeX and Markdown are copied, CSV is saved; what cannot be copied is saved too.
document.querySelectorAll(".take").forEach(function (take) {
  const forms = JSON.parse(take.querySelector("script").textContent);
  const save = function (form) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([forms[form].text], { type: "text/plain;charset=utf-8" }));
    link.download = forms[form].file;
    link.click();
    URL.revokeObjectURL(link.href);
    return "saved";
  };
  take.hidden = false;
  take.querySelectorAll("button").forEach(function (button) {
    const form = button.dataset.form;
    const label = button.textContent;
    const show = function (done) {
      button.textContent = done;
      setTimeout(function () { button.textContent = label; }, 1500);
    };
    button.addEventListener("click", function () {
      if (form === "csv" || !navigator.clipboard) return show(save(form));
      navigator.clipboard.writeText(forms[form].text).then(function () { show("copied"); }, function () { show(save(form)); });
    });
  });
});

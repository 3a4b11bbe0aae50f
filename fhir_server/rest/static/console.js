"use strict";
// The small console on the landing page: sends a GET and shows what came back.
(() => {
  const form = document.getElementById("console");
  const path = document.getElementById("path");
  const status = document.getElementById("status");
  const answer = document.getElementById("answer");
  const token = document.getElementById("token");
  async function send() {
    const started = performance.now();
    status.textContent = "…";
    const headers = { Accept: "application/fhir+json" };
    if (token && token.value.trim()) headers.Authorization = `Bearer ${token.value.trim()}`;
    try {
      const response = await fetch(`${form.dataset.base}/${path.value.replace(/^\/+/, "")}`, { headers });
      const text = await response.text();
      const took = (performance.now() - started).toFixed(0);
      status.textContent = `${response.status} ${response.statusText}, ${text.length.toLocaleString("en")} characters, ${took} ms`;
      let shown = text;
      try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* not JSON: shown as it came */ }
      answer.textContent = shown;
      answer.hidden = false;
    } catch (error) {
      status.textContent = `No answer: ${error.message}`;
    }
  }
  form.addEventListener("submit", (event) => { event.preventDefault(); send(); });
  for (const link of document.querySelectorAll("a[data-path]")) {
    link.addEventListener("click", (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      path.value = link.dataset.path;
      send();
      form.scrollIntoView({ block: "nearest" });
    });
  }
})();

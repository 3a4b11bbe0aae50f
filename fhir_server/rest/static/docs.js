"use strict";
window.addEventListener("DOMContentLoaded", () => {
  const place = document.getElementById("swagger");
  window.SwaggerUIBundle({ url: place.dataset.url, domNode: place, deepLinking: true, docExpansion: "list", defaultModelsExpandDepth: -1, validatorUrl: null });
});
